# wsi_sampath for NVIDIA GPUs:
#   docker build -t wsi-sampath .
#   docker run --rm --gpus all --shm-size 4g -u "$(id -u):$(id -g)" -v "$PWD":/data wsi-sampath \
#       wsi-segment slide.svs --out slide.zarr
# PyPI's torch brings CUDA's libraries along; the host needs its driver and the NVIDIA Container
# Toolkit, nothing else.
FROM python:3.12-slim-bookworm AS build

WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY wsi_sampath ./wsi_sampath
RUN python -m venv /opt/wsi-sampath \
    && /opt/wsi-sampath/bin/pip install --no-cache-dir --constraint constraints.txt '.[viewer,train,cluster]'

FROM python:3.12-slim-bookworm

COPY --from=build /opt/wsi-sampath /opt/wsi-sampath
ENV PATH=/opt/wsi-sampath/bin:$PATH \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    XDG_CACHE_HOME=/tmp/cache
# A user of its own; -u gives the files to yours.
RUN useradd --create-home --uid 1000 wsi
USER 1000:1000
WORKDIR /data
CMD ["wsi-segment", "--help"]
