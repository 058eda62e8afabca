# syntax=docker/dockerfile:1
# Services (MLflow, Prefect, Ray's head) and stages on CPU nodes. A digest pins the base beyond its tag:
# --build-arg BASE=python:3.11.13-slim-bookworm@sha256:...
ARG BASE=python:3.11.13-slim-bookworm

FROM ${BASE} AS build
ARG UV_VERSION=0.13.9
ENV UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
RUN pip install --no-cache-dir uv==${UV_VERSION} && python -m venv --without-pip /opt/venv
WORKDIR /source
# what changes seldom first, so that a change of our code does not install everything again
COPY pyproject.toml constraints.txt README.md ./
RUN --mount=type=cache,target=/root/.cache/uv \
    uv pip install --python /opt/venv/bin/python --torch-backend cpu --compile-bytecode \
      -c constraints.txt -r pyproject.toml --extra curate --extra train --extra eval --extra cluster
COPY models models
COPY components components
COPY flows flows
RUN --mount=type=cache,target=/root/.cache/uv \
    uv pip install --python /opt/venv/bin/python --no-deps --compile-bytecode .

FROM ${BASE} AS run
# git: DVC and lineage ask for the commit. wget: KubeRay's probes. libgomp1: torch. tini: signals and zombies.
RUN apt-get update \
    && apt-get install -y --no-install-recommends git libgomp1 tini wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin reelforge
COPY infra/docker/login.sh /etc/profile.d/reelforge.sh
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    DO_NOT_TRACK=1 DVC_NO_ANALYTICS=1 MLFLOW_DISABLE_TELEMETRY=true PREFECT_SERVER_ANALYTICS_ENABLED=false
USER 10001:10001
WORKDIR /workspace
# one image, many services: each manifest has the probe of its own
HEALTHCHECK NONE
ENTRYPOINT ["tini", "--"]
CMD ["reelforge", "--help"]
