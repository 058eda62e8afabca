# syntax=docker/dockerfile:1
# VBench, away from our own packages. Videos and prompts come in by a mounted folder, scores go out by one.
ARG BASE=python:3.11.13-slim-bookworm

FROM ${BASE} AS build
ARG UV_VERSION=0.13.9
# object_class, multiple_objects, color and spatial_relationship need detectron2, which is on no index and compiles
# CUDA code: give a URL that pip understands, and a CUDA devel image as BASE. Without it, the other 12 dimensions work.
ARG DETECTRON2=""
ENV UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential git \
    && rm -rf /var/lib/apt/lists/* \
    && pip install --no-cache-dir uv==${UV_VERSION} \
    && python -m venv --without-pip /opt/venv
COPY infra/docker/vbench.requirements.txt /source/requirements.txt
RUN --mount=type=cache,target=/root/.cache/uv \
    uv pip install --python /opt/venv/bin/python --compile-bytecode -r /source/requirements.txt
RUN --mount=type=cache,target=/root/.cache/uv \
    if [ -n "${DETECTRON2}" ]; then \
      uv pip install --python /opt/venv/bin/python --no-build-isolation "${DETECTRON2}"; \
    fi

FROM ${BASE} AS run
# libgl1 and libglib2.0-0: OpenCV with windows, which VBench asks for
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 libgomp1 tini wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin reelforge
COPY --from=build /opt/venv /opt/venv
# weights are downloaded on first use into a folder that is mounted, so that they are downloaded once
ENV PATH=/opt/venv/bin:$PATH \
    VBENCH_CACHE_DIR=/weights TORCH_HOME=/weights/torch HF_HOME=/weights/huggingface \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /workspace
# runs once and ends
HEALTHCHECK NONE
ENTRYPOINT ["tini", "--"]
CMD ["vbench", "--help"]
