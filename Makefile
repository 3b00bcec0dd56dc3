# What developers and CI run. `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## the program, as it is released: target/release/onionbraid
	$(CARGO) build --release --locked

.PHONY: lint
lint: toolchain ## formatting, clippy and rustdoc, warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --workspace --no-deps --document-private-items --locked

.PHONY: test
test: programs lint ## everything: lint, hermetic tests, doc tests, end-to-end tests
	$(CARGO) test --workspace --locked -- --skip e2e::
	$(CARGO) test --locked --test e2e e2e:: -- --test-threads=2

.PHONY: demo
demo: tor ## three backends behind one address, on a private Tor network (KEEP=1: stay up)
	$(CARGO) build --locked --bin onionbraid --example demo
	@exec "$${CARGO_TARGET_DIR:-target}/debug/examples/demo"

.PHONY: measure
measure: tor ## start, throughput, memory and CPU of the release, beside plain C tor
	$(CARGO) build --release --locked --bin onionbraid --example measure
	@exec "$${CARGO_TARGET_DIR:-target}/release/examples/measure"

.PHONY: compare
compare: ## the reverse proxy beside nginx as one, on plain TCP
	@integration/install-programs.sh compare
	$(CARGO) build --release --locked --example compare
	@exec "$${CARGO_TARGET_DIR:-target}/release/examples/compare"

.PHONY: soak
soak: tor ## an hour that holds ten of the daemon's days: does it grow? (SOAK_MINUTES: 40 at least)
	$(CARGO) build --release --locked --bin onionbraid --example soak
	@exec "$${CARGO_TARGET_DIR:-target}/release/examples/soak"

.PHONY: tor
tor: # C tor, for the private network; installed where it is missing
	@integration/install-programs.sh

.PHONY: programs
programs: # the same, and the servers and clients of the web that tests run
	@integration/install-programs.sh web

.PHONY: toolchain
toolchain:
	@$(CARGO) fmt --version >/dev/null 2>&1 || \
		{ echo "rustfmt is missing: rustup component add rustfmt" >&2; exit 1; }
	@$(CARGO) clippy --version >/dev/null 2>&1 || \
		{ echo "clippy is missing: rustup component add clippy" >&2; exit 1; }
