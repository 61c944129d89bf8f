# make setup | run | test | bench | test-clients | test-interop. Every build is of the whole workspace with one profile, so that RocksDB,
# which takes most of the time, is compiled once for all of them.

CARGO ?= cargo
SHELL := /bin/bash
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
COMPONENTS := rustfmt clippy
PACKAGES := clang libclang-dev build-essential pkg-config

# CI clones the project anew each time: what was built before is kept outside of the clone.
ifeq ($(CI),true)
export CARGO_TARGET_DIR ?= $(HOME)/.cache/natterjack/target
endif
TARGET := $(or $(CARGO_TARGET_DIR),target)

# Tests leave our own crates unoptimised, since building them is most of their time. What is run or measured is optimised like
# the dependencies; both kinds share the profile, and so the dependencies.
OPTIMISED := CARGO_PROFILE_DEV_OPT_LEVEL=3

# Where the server of `make run` is and what it is called.
SERVER_NAME ?= localhost

.PHONY: setup run build test fmt clippy unit doc bench test-clients test-interop fuzz

## Installs what building and testing need: rustfmt and clippy, and clang for the bindings of RocksDB.
setup:
	@if command -v rustup >/dev/null && ! { $(CARGO) fmt --version && $(CARGO) clippy --version; } >/dev/null 2>&1; then \
		echo "installing $(COMPONENTS)"; rustup component add $(COMPONENTS); \
	fi
	@if command -v clang >/dev/null && { compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' || \
		compgen -G '/usr/lib/*/libclang*.so*'; } >/dev/null; then exit 0; fi; \
	if ! command -v apt-get >/dev/null; then \
		command -v clang >/dev/null || echo "please install clang and libclang: RocksDB's bindings need them"; exit 0; \
	fi; \
	if [ -n "$(SUDO)" ] && ! command -v sudo >/dev/null; then \
		echo "please install as root, since there is no sudo: $(PACKAGES)"; exit 1; \
	fi; \
	echo "installing $(PACKAGES)"; \
	$(SUDO) apt-get update && $(SUDO) apt-get install -y --no-install-recommends $(PACKAGES)

build: setup
	$(OPTIMISED) $(CARGO) build --workspace --bins

## Builds the server and runs it at http://127.0.0.1:8008 with data in ./data.
run: build
	$(TARGET)/debug/natterjack serve --server-name $(SERVER_NAME)

## Everything that must hold: format, lints, tests, documentation.
test: setup fmt clippy unit doc

fmt:
	$(CARGO) fmt --all --check

clippy:
	$(CARGO) clippy --workspace --all-targets -- -D warnings

unit:
	$(CARGO) test --workspace

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items

## Measures, with our own crates optimised like the dependencies.
bench: setup
	$(OPTIMISED) $(CARGO) bench --workspace --benches --profile dev

## Two matrix-nio and two matrix-js-sdk clients talk through a server. Installs them below target/clients.
test-clients: build
	NATTERJACK=$(TARGET)/debug/natterjack tests/clients/run

## Natterjack and Synapse in rooms together, on loopback. Installs Synapse below target/interop.
test-interop: build
	NATTERJACK=$(TARGET)/debug/natterjack INTEROP_DIR=$(TARGET)/interop tests/interop/run

# Seconds for each fuzz target.
FUZZ_SECONDS ?= 60

## Fuzzes what other servers send. Needs nightly Rust and cargo-fuzz (`cargo install cargo-fuzz`).
fuzz:
	@for target in pdu resolution transaction well_known x_matrix; do \
		mkdir -p fuzz/corpus/$$target; \
		cargo +nightly fuzz run --dev --target-dir fuzz/target $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -max_len=16384 -timeout=10 -rss_limit_mb=2048 || exit 1; \
	done
