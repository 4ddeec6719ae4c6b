# syntax=docker/dockerfile:1

# docker build -t outrigger .
# docker buildx build --platform linux/amd64,linux/arm64 --build-arg REVISION="$(git rev-parse HEAD)" -t … --push .
#
# Each platform is built by a compiler that runs on it, so nothing here knows their names. Alpine's C library makes
# the binary a static one: the image is that binary and what it reads.

ARG RUST_VERSION=1.95

FROM rust:${RUST_VERSION}-alpine AS build
# A C compiler and make: for jemalloc, and for the cryptography under TLS.
RUN apk add --no-cache ca-certificates-bundle gcc make musl-dev
WORKDIR /src
# Names of functions stay, for the sake of panics; lines go.
ENV CARGO_PROFILE_RELEASE_DEBUG=false CARGO_PROFILE_RELEASE_STRIP=debuginfo

# The dependencies alone, with nothing in place of our own code: this layer stays until one of them changes.
COPY .cargo/ .cargo/
COPY Cargo.toml Cargo.lock ./
RUN mkdir src benches \
    && touch src/lib.rs \
    && echo 'fn main() {}' | tee src/main.rs benches/scanner.rs > benches/log.rs \
    # Kernels for arm64 come with pages of up to 64 KiB, and jemalloc has to know the largest.
    && export JEMALLOC_SYS_WITH_LG_PAGE="$([ "$(uname -m)" = aarch64 ] && echo 16 || echo 12)" \
    && cargo build --release --locked --bin outrigger

# What the settings are for stands in it, and goes into the program.
COPY config/outrigger.yaml config/
COPY src/ src/
# Copied files may be older than what was built in their place.
RUN touch src/lib.rs src/main.rs \
    && export JEMALLOC_SYS_WITH_LG_PAGE="$([ "$(uname -m)" = aarch64 ] && echo 16 || echo 12)" \
    && cargo build --release --locked --bin outrigger \
    && cp target/release/outrigger /outrigger \
    && /outrigger --version

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=
ARG SOURCE=
LABEL org.opencontainers.image.title="outrigger" \
      org.opencontainers.image.description="A sidecar reverse proxy that makes existing WebSocket servers resilient without changing a line of them" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"
# Authorities that https:// upstreams and key sets are checked against.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY LICENSE /LICENSE
COPY --from=build /outrigger /outrigger
# A number, so that Kubernetes can tell that it is not root.
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/outrigger"]
CMD ["run"]
