# What developers and CI run. `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo

# Where `make deps` puts what is no package of Debian's.
export PATH := $(CURDIR)/target/tools/bin:$(PATH)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## the program, as it is released: target/release/onionbraid
	$(CARGO) build --release --locked

.PHONY: packages
packages: ## a Debian package and an RPM: dist/
	@integration/install-programs.sh packages
	packaging/release.sh dist packages

.PHONY: release
release: ## all that is released, reproducibly: a static program, packages, an image, sums: dist/ (ARCH=arm64: for that, without packages)
	@integration/install-programs.sh packages image $(if $(ARCH),cross)
	ARCH=$(ARCH) packaging/release.sh dist

.PHONY: image
image: ## the container image, without an engine: dist/
	@integration/install-programs.sh image
	packaging/release.sh dist image

.PHONY: image-files
image-files: ## what packaging/Containerfile copies, for an engine: target/image
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) packaging/build-release.sh static target/static/onionbraid
	packaging/image-files.sh target/static/onionbraid target/image

.PHONY: test-packages
test-packages: tor release ## installs the Debian package and the RPM, runs the image, alone and as on Kubernetes, and the playbook (as root)
	packaging/test-release.sh dist
	$(CARGO) build --locked --bin onionbraid --example demo
	packaging/test-clean-root.sh dist/onionbraid_*.deb "$${CARGO_TARGET_DIR:-target}/debug"
	packaging/test-rpm.sh dist/onionbraid-*.rpm
	packaging/test-image.sh dist/onionbraid-*-$$(uname -m)-linux-image.tar.gz "$${CARGO_TARGET_DIR:-target}/debug"
	@integration/install-programs.sh kubernetes
	packaging/test-kubernetes.sh dist/onionbraid-*-$$(uname -m)-linux-image.tar.gz "$${CARGO_TARGET_DIR:-target}/debug"
	@integration/install-programs.sh ansible
	packaging/test-ansible.sh dist/onionbraid_*.deb "$${CARGO_TARGET_DIR:-target}/debug"

.PHONY: test-reproducible
test-reproducible: release ## makes the release once more, in another directory: the same bytes?
	ARCH=$(ARCH) packaging/test-reproducible.sh dist

.PHONY: test-arm64
test-arm64: tor ## the program and the image for arm64, on the private network, with qemu (after `make release ARCH=arm64`)
	@integration/install-programs.sh cross
	$(CARGO) build --locked --bin onionbraid --example demo
	packaging/test-arm64.sh dist "$${CARGO_TARGET_DIR:-target}/debug"

.PHONY: deps
deps: ## install what tests need and this machine lacks: tor, obfs4proxy, faketime, nftables, nginx, curl, aiohttp, Prometheus, Chromium, axe-core, cargo-deny, kubernetes-validate, taplo, SSLyze, Onionbalance
	@integration/install-programs.sh tor web monitoring browser deny validators scanner migration

.PHONY: lint
lint: toolchain deny ## formatting, clippy (with and without proof of work), rustdoc and dependencies
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy --no-default-features --locked -- -D warnings
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --workspace --no-deps --document-private-items --locked

.PHONY: deny
deny: ## licences, bans and sources of dependencies (cargo deny)
	@integration/install-programs.sh deny
	$(CARGO) deny --locked check licenses bans sources

.PHONY: advisories
advisories: ## known weaknesses of dependencies; fetches the database of RustSec
	@integration/install-programs.sh deny
	$(CARGO) deny --locked check advisories

.PHONY: test
test: present ## everything: lint, hermetic tests, doc tests, end-to-end tests
	$(CARGO) test --workspace --locked --no-run
	@$(MAKE) --no-print-directory --jobs=2 end-to-end quick

# End-to-end tests wait for Tor more than they compute: the rest runs beside them. Cargo
# is not to share the two jobs of this make.
.PHONY: end-to-end
end-to-end: present ## the tests on the private Tor network
	env -u MAKEFLAGS $(CARGO) test --locked --test e2e e2e:: -- --test-threads=6

.PHONY: quick
quick:
	env -u MAKEFLAGS nice $(MAKE) --no-print-directory hermetic lint

.PHONY: hermetic
hermetic: ## unit tests, doc tests, and what runs the program without a network
	$(CARGO) test --workspace --locked -- --skip e2e::

.PHONY: demo
demo: tor ## three backends behind one address, on a private Tor network (KEEP=1: stay up)
	$(CARGO) build --locked --bin onionbraid --example demo
	@exec "$${CARGO_TARGET_DIR:-target}/debug/examples/demo"

.PHONY: measure
measure: tor ## start, throughput, memory and CPU of the release, beside plain C tor
	$(CARGO) bench --locked --bench measure

.PHONY: attack
attack: tor ## who still gets a page under a flood of introductions, beside plain C tor (ATTACK_MINUTES)
	$(CARGO) bench --locked --bench attack

.PHONY: classify
classify: tor ## can a program learn which descriptors are ours, and which are C tor's? (PAIRS and SERVICES of processes)
	$(CARGO) bench --locked --bench classify

.PHONY: compare
compare: ## the reverse proxy beside nginx as one, on plain TCP
	@integration/install-programs.sh compare
	$(CARGO) build --release --locked --example compare
	@exec "$${CARGO_TARGET_DIR:-target}/release/examples/compare"

.PHONY: soak
soak: tor ## an hour that holds ten of the daemon's days: does it grow? (SOAK_MINUTES: 40 at least)
	$(CARGO) bench --locked --bench soak

.PHONY: tor
tor: # C tor, for the private network; installed where it is missing
	@integration/install-programs.sh tor

.PHONY: present
present: # what tests need; installed where it is missing
	@integration/install-programs.sh --missing tor web monitoring browser deny validators scanner migration >/dev/null || $(MAKE) --no-print-directory deps

.PHONY: toolchain
toolchain:
	@$(CARGO) fmt --version >/dev/null 2>&1 || \
		{ echo "rustfmt is missing: rustup component add rustfmt" >&2; exit 1; }
	@$(CARGO) clippy --version >/dev/null 2>&1 || \
		{ echo "clippy is missing: rustup component add clippy" >&2; exit 1; }
