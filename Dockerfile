# A container image that runs sage as an unprivileged user.
#   CPU:  docker build -t sage .
#   CUDA: docker build -t sage:cuda --build-arg BASE=nvidia/cuda:13.0.1-devel-ubuntu24.04 --build-arg CMAKE_ARGS="-DGGML_CUDA=on" .
#   Use:  docker run --rm -v "$PWD:/videos:ro" -v sage:/home/sage [--gpus all] sage ask /videos/talk.mp4 "What is it about?"
# Tested without Docker: `.ci/image.py` ran the steps of the CPU image one by one in fresh Debian roots, the compilation of llama.cpp included, and then
# `sage demo`. The CUDA image was not tested.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
ARG CMAKE_ARGS=""
ENV CMAKE_ARGS=${CMAKE_ARGS} PIP_NO_CACHE_DIR=1
RUN apt-get update && apt-get install -y --no-install-recommends build-essential cmake python3 python3-dev python3-venv && rm -rf /var/lib/apt/lists/*
COPY . /source
RUN python3 -m venv /opt/sage && /opt/sage/bin/pip install "/source[mcp,url]"

FROM ${BASE}
RUN apt-get update && apt-get install -y --no-install-recommends python3 libgomp1 && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 sage
COPY --from=build /opt/sage /opt/sage
USER sage
WORKDIR /home/sage
ENV PATH=/opt/sage/bin:$PATH
ENTRYPOINT ["sage"]
