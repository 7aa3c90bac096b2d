# Every target is plain cargo, or one script; `make` alone lists them.
.DEFAULT_GOAL := help

.PHONY: help demo run build lint test test-peers test-deploy crds bless bench fuzz clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## the whole story on this machine: certificates, TLS upstreams, gateway, requests and answers
	cargo run --bin nuncio -- demo --once

run: ## serve your manifests: make run CONFIG=path/to/folder
	@test -n "$(CONFIG)" || { echo "make run needs CONFIG=PATH, a file or folder of manifests" >&2; exit 2; }
	cargo run --bin nuncio -- run --config "$(CONFIG)"

build: ## the optimised binary: target/release/nuncio
	cargo build --release --locked --bin nuncio

lint: ## formatting, clippy and documentation, warnings are errors
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

test: ## unit, crate and whole-program tests; needs nothing but Rust
	cargo test --locked --workspace --no-fail-fast

test-peers: ## against openssl, nginx, HAProxy, Envoy, Caddy, curl and h2load; installs what is missing
	tests/peers/install
	cargo test --locked --package nuncio --features peers --test program peers::

test-deploy: ## deploy/ with Helm's engine and Kubernetes' schemas, and the program of the image in an empty root
	tests/packaging/install
	PYTHONPATH=target/packaging PYTHONDONTWRITEBYTECODE=1 \
	  python3 -m unittest discover --start-directory tests/packaging --pattern 'test_*.py'
	tests/packaging/static

crds: ## write what `nuncio crds` prints into the chart
	cargo run --quiet --locked --bin nuncio -- crds > target/crds.yaml
	mv target/crds.yaml deploy/chart/crds/getambassador.io.yaml

bless: ## rewrite the expected outputs of the compile cases; read the diff before you commit it
	NUNCIO_BLESS=1 cargo test --locked --package nuncio-compile

bench: build ## nuncio beside Envoy, nginx and HAProxy, and its TLS against its aims; FLAGS="--write"
	bench/run $(FLAGS)

fuzz: ## each fuzz target for SECONDS (default 60); FLAGS="crl secret" for some of them
	fuzz/run $(or $(SECONDS),60) $(FLAGS)

clean: ## remove everything that was built
	cargo clean
	rm -rf bench/out
