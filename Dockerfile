# syntax=docker/dockerfile:1
# The image of pixart: the binary, OpenVINO's libraries, a base without shell or package manager.
#
#   docker build --tag pixart:local .
#   docker build --tag pixart:local-all --build-arg PIXART_RUNTIME=all .     with the plugins and drivers for Intel GPUs
#
# It draws with nothing configured, as user 65532, with a read-only root and nothing writable but a tmpfs at /tmp:
#
#   docker run --rm --read-only --tmpfs /tmp:size=64m --cap-drop ALL --security-opt no-new-privileges \
#       --publish 8080:8080 pixart:local

# cpu: every x86-64 with AVX2, and arm64. all: the GPU and NPU plugins as well.
ARG PIXART_RUNTIME=cpu
ARG RUST_VERSION=1.95

# The base of each variant. Both have the C and C++ libraries of Debian, and no more than that is asked of them.
FROM gcr.io/distroless/cc-debian12:nonroot AS base-cpu

FROM debian:12-slim AS base-all
# What the GPU plugin talks to, in the version that the distribution keeps safe. Debian has no driver for NPUs: an image of
# your own on top of this one can add it.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates intel-opencl-icd libstdc++6 ocl-icd-libopencl1 \
    && rm -rf /var/lib/apt/lists/*

# The binary. On Debian 12, so that it asks for no newer C library than the bases have.
FROM rust:${RUST_VERSION}-slim-bookworm AS build
WORKDIR /build
# The crates that it is made of, built before the source is there: this layer stays until Cargo.toml or Cargo.lock changes.
# Cargo wants to see every target that Cargo.toml names, so each stands here as an empty program.
COPY Cargo.toml Cargo.lock ./
RUN for target in src benches/load models/sketchbook/score tests; do \
        mkdir -p "$target" && echo 'fn main() {}' >"$target/main.rs"; \
    done \
    && touch src/lib.rs && cp src/main.rs benches/quality.rs \
    && cargo build --release --locked --bin pixart \
    # What came of the stand-ins goes, so that no time stamp can pass it off as the real thing.
    && cargo clean --release --locked --package pixart
COPY openapi.yaml ./
COPY models/sketchbook models/sketchbook
COPY page page
COPY src src
# For any CPU that OpenVINO runs on: what is fast asks at run time what the CPU can.
RUN cargo build --release --locked --bin pixart

# OpenVINO: the pinned wheel, held to its checksum.
FROM python:3.13-slim-bookworm AS runtime
ARG PIXART_RUNTIME
WORKDIR /build
COPY openvino-runtime.txt ./
COPY scripts/fetch-openvino.sh scripts/
RUN PIXART_RUNTIME="$PIXART_RUNTIME" scripts/fetch-openvino.sh

# The tree that the image has beside its base.
FROM runtime AS tree
COPY LICENSE NOTICE ./
COPY deploy/config.toml deploy/layout.sh deploy/
COPY --from=build /build/target/release/pixart ./
# A volume takes over the owner of the folder that it is mounted at, and 'pixart convert' writes into it.
RUN PIXART_RUNTIME="$PIXART_RUNTIME" deploy/layout.sh pixart .openvino/libs /tree && chown 65532:65532 /tree/models

# hadolint ignore=DL3006 # one of the two bases above
FROM base-${PIXART_RUNTIME} AS image
ARG PIXART_VERSION=0.1.0
ARG PIXART_REVISION=unknown
LABEL org.opencontainers.image.title="pixart" \
      org.opencontainers.image.description="Text-to-image with PixArt-α on ordinary CPUs, through OpenVINO" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${PIXART_VERSION}" \
      org.opencontainers.image.revision="${PIXART_REVISION}"
COPY --from=tree /tree/ /
ENV PIXART_CONFIG=/etc/pixart/config.toml
USER 65532:65532
WORKDIR /
EXPOSE 8080
# It drains: those who wait are answered, the running picture is finished. Give it server.grace_seconds and a second.
STOPSIGNAL SIGTERM
# Alive, not ready: while a large model loads there is nothing to restart. /readyz is what a balancer asks.
HEALTHCHECK --interval=15s --timeout=5s --start-period=10s --retries=3 CMD ["pixart", "healthcheck"]
ENTRYPOINT ["pixart"]
CMD ["serve"]
