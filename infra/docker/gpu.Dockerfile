# syntax=docker/dockerfile:1
# Training on H100: CUDA's torch, FlashAttention, Transformer Engine and DeepSpeed's fused operators, compiled here so
# that no node compiles; libfabric and NCCL's plug-in for EFA. Digests pin the bases beyond their tags.
ARG BUILD_BASE=nvidia/cuda:13.0.1-cudnn-devel-ubuntu22.04
ARG RUN_BASE=nvidia/cuda:13.0.1-base-ubuntu22.04

FROM ${BUILD_BASE} AS build
ARG UV_VERSION=0.13.9
ARG PYTHON_VERSION=3.11.13
ARG FLASH_ATTENTION_VERSION=2.8.3.post2
ARG TRANSFORMER_ENGINE_VERSION=2.20.2
ARG COMPILE_JOBS=16
ENV DEBIAN_FRONTEND=noninteractive UV_LINK_MODE=copy UV_PYTHON_INSTALL_DIR=/opt/python
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential ca-certificates curl git ninja-build \
    && rm -rf /var/lib/apt/lists/*
ADD https://github.com/astral-sh/uv/releases/download/${UV_VERSION}/uv-x86_64-unknown-linux-gnu.tar.gz /tmp/uv.tar.gz
RUN tar -xzf /tmp/uv.tar.gz -C /usr/local/bin --strip-components=1 \
    && uv python install ${PYTHON_VERSION} \
    && uv venv --python ${PYTHON_VERSION} --seed /opt/venv
ENV PATH=/opt/venv/bin:$PATH VIRTUAL_ENV=/opt/venv
WORKDIR /source
COPY pyproject.toml constraints.txt README.md ./
# 9.0 is the H100; a GPU is not needed to compile for it
ENV TORCH_CUDA_ARCH_LIST=9.0 FLASH_ATTN_CUDA_ARCHS=90 NVTE_CUDA_ARCHS=90 NVTE_FRAMEWORK=pytorch \
    MAX_JOBS=${COMPILE_JOBS} DS_ACCELERATOR=cuda DS_BUILD_FUSED_ADAM=1 DS_BUILD_CPU_ADAM=1
# torch first: what is compiled is compiled against it
RUN --mount=type=cache,target=/root/.cache/uv \
    uv pip install -c constraints.txt torch numpy ninja packaging psutil setuptools wheel
RUN --mount=type=cache,target=/root/.cache/uv \
    uv pip install --no-build-isolation -c constraints.txt \
      flash-attn==${FLASH_ATTENTION_VERSION} \
      "transformer-engine[core_cu13,pytorch]==${TRANSFORMER_ENGINE_VERSION}"
RUN --mount=type=cache,target=/root/.cache/uv \
    uv pip install --no-build-isolation --no-binary deepspeed --compile-bytecode \
      -c constraints.txt -r pyproject.toml --extra curate --extra train --extra eval --extra cluster
COPY models models
COPY components components
COPY flows flows
RUN --mount=type=cache,target=/root/.cache/uv uv pip install --no-deps --compile-bytecode .

FROM ${RUN_BASE} AS run
ARG EFA_INSTALLER_VERSION=1.43.2
ENV DEBIAN_FRONTEND=noninteractive
# the kernel's part of EFA is the node's (--skip-kmod); there is no adapter here to verify with (--no-verify)
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl git gnupg libgomp1 tini wget \
    && curl --fail --silent --show-error --location --output /tmp/efa.tar.gz \
       https://efa-installer.amazonaws.com/aws-efa-installer-${EFA_INSTALLER_VERSION}.tar.gz \
    && tar -xzf /tmp/efa.tar.gz -C /tmp \
    && cd /tmp/aws-efa-installer \
    && ./efa_installer.sh --yes --skip-kmod --skip-limit-conf --no-verify \
    && ldconfig \
    && rm -rf /tmp/efa.tar.gz /tmp/aws-efa-installer /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin reelforge
COPY infra/docker/login.sh /etc/profile.d/reelforge.sh
COPY --from=build /opt/python /opt/python
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:/opt/amazon/efa/bin:$PATH \
    LD_LIBRARY_PATH=/opt/amazon/ofi-nccl/lib:/opt/amazon/efa/lib \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    DO_NOT_TRACK=1 DVC_NO_ANALYTICS=1 MLFLOW_DISABLE_TELEMETRY=true
USER 10001:10001
WORKDIR /workspace
# a batch image: `components.preflight` says whether the node is fit, before training starts
HEALTHCHECK NONE
ENTRYPOINT ["tini", "--"]
CMD ["python", "-m", "components", "--help"]
