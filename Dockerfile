# syntax=docker/dockerfile:1
# The image: one static binary on an empty base. `docker build --tag REGISTRY/nuncio:0.1.0 .`
# What tests/packaging/static builds and runs in an empty root is built the same way, in the development profile.

# The version that rust-toolchain.toml names; that file stays outside, for it would fetch tools for tests as well.
FROM rust:1.95.0-slim-bookworm AS build
# The TLS library is C and assembler.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /nuncio
COPY . .
# What `nuncio --version` tells; the folder of git is not in here.
ARG NUNCIO_COMMIT=unknown
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/nuncio/target \
    target=$(rustc -vV | sed -n 's/^host: //p') \
 && NUNCIO_COMMIT=$NUNCIO_COMMIT cargo build --locked --release --bin nuncio \
      --target "$target" --config deploy/static.toml \
 && strip --strip-debug -o /nuncio-static "target/$target/release/nuncio"

FROM scratch
# No CA certificates: where the system has none, the program brings Mozilla's. SSL_CERT_FILE names others.
COPY --from=build /nuncio-static /nuncio
USER 65532:65532
EXPOSE 8080 8443 8877
ENTRYPOINT ["/nuncio"]
# In a pod that is enough: it reads the cluster by itself.
CMD ["run"]
