# What there is to type. `make` lists it; README opens with `make run` and `make test`.
# Needs: Rust (Cargo.toml says since when), Python 3 with pip (it fetches OpenVINO's wheel, no more), and a C compiler (for TLS).

SHELL := /bin/sh
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# Where cargo builds: CARGO_TARGET_DIR where it is set, else target/.
TARGET := $(or $(CARGO_TARGET_DIR),target)
PIXART := $(TARGET)/release/pixart
PYTHON ?= python3

# Where `make run` serves.
LISTEN ?= 127.0.0.1:8080

# Tools that are built for this project alone. A cargo-deny that is already on the machine will do as well.
CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := .tools/bin/cargo-deny
FOUND_DENY := $(or $(wildcard $(CARGO_DENY)),$(shell command -v cargo-deny))
# A tool that runs for a second need not be fast: without optimisation it builds in half the time.
QUICK_BUILD := CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off \
    CARGO_PROFILE_RELEASE_CODEGEN_UNITS=256 CARGO_TARGET_DIR=.tools/target

PARITY_VENV := .venv-parity
CLIENTS := tests/clients
CLIENTS_VENV := .venv-clients
# The binary that the clients meet; without this, the optimised one is built.
CLIENTS_PIXART ?=
E2E := tests/e2e
# The browser of the page's tests, and which of them run.
CHROMIUM ?= /usr/bin/chromium
E2E_TESTS ?= $(wildcard $(E2E)/*.test.mjs)
DEPLOY := tests/deploy
DEPLOY_VENV := .venv-deploy
# Which fuzz target runs, and for how long.
FUZZ_TARGET ?= prompt
FUZZ_SECONDS ?= 60

.PHONY: help
help: ## list these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: runtime
runtime: ## fetch the pinned OpenVINO runtime into .openvino/libs (PIXART_RUNTIME=cpu: without GPU and NPU)
	@PYTHON='$(PYTHON)' scripts/fetch-openvino.sh

.PHONY: build
build: ## build the binary, optimised
	cargo build --release --locked

.PHONY: run
run: runtime build ## set everything up and serve the embedded model on port 8080 (LISTEN=address:port)
	$(PIXART) serve --listen '$(LISTEN)'

.PHONY: test
test: runtime lint licenses fuzz-check ## set everything up and pass all tests: format, lints, licences, unit and golden tests
	cargo test --locked

.PHONY: lint
lint: ## check format and lints, warnings fatal
	cargo fmt --check
	cargo clippy --locked --all-targets -- --deny warnings

.PHONY: licenses
licenses: ## check licences, bans and sources of all crates, where cargo-deny is at hand ('make tools' builds it)
ifneq ($(FOUND_DENY),)
	$(FOUND_DENY) --log-level error check --hide-inclusion-graph licenses bans sources
else
	@echo 'cargo-deny is not here: licences, bans and sources of the crates are left to CI (make tools builds it)'
endif

# The libFuzzer named here is never linked: so no C++ compiler is needed to check.
.PHONY: fuzz-check
fuzz-check: ## check that the fuzz targets compile
	CUSTOM_LIBFUZZER_PATH=/nowhere/libfuzzer.a CARGO_TARGET_DIR='$(TARGET)' \
	    cargo check --locked --manifest-path fuzz/Cargo.toml

.PHONY: deny
deny: $(or $(FOUND_DENY),$(CARGO_DENY)) ## check licences, bans, sources and known vulnerabilities of all crates (fetches the advisory database)
	$< --log-level error check --hide-inclusion-graph

.PHONY: tools
tools: $(or $(FOUND_DENY),$(CARGO_DENY)) ## build cargo-deny into .tools, if this machine has none

$(CARGO_DENY):
	$(QUICK_BUILD) cargo install --locked --quiet --root .tools cargo-deny@$(CARGO_DENY_VERSION)
	@rm -rf .tools/target

# The client needs no optimisation: what 'make test' has built serves here too.
.PHONY: load
load: runtime build ## load the service open-loop and print what holds (SCENARIO='burst overload …'; all of them take a quarter of an hour)
	cargo bench --locked --profile dev --bench load -- --pixart '$(abspath $(PIXART))' $(SCENARIO)

.PHONY: parity
parity: runtime build $(PARITY_VENV)/.made ## compare with diffusers afresh: torch and diffusers in a throw-away environment (3 GB)
	@work=$$(mktemp -d) && trap 'rm -rf "$$work"' EXIT && \
	    $(PARITY_VENV)/bin/python tests/golden/parity.py --pixart '$(abspath $(PIXART))' --work "$$work"

NNCF_VENV := .venv-nncf
# An interpreter that has tests/nncf/requirements.txt already; without this, one is set up (3 GB).
NNCF_PYTHON ?= $(NNCF_VENV)/bin/python
.PHONY: parity-nncf
parity-nncf: runtime build $(if $(filter $(NNCF_VENV)/%,$(NNCF_PYTHON)),$(NNCF_VENV)/.made) ## hold 'pixart quantize' against NNCF on the same model and captions: NNCF in a throw-away environment (3 GB)
	@work=$$(mktemp -d) && trap 'rm -rf "$$work"' EXIT && \
	    $(NNCF_PYTHON) tests/nncf/parity.py --pixart '$(abspath $(PIXART))' --work "$$work"

$(NNCF_VENV)/.made: tests/nncf/requirements.txt
	rm -rf $(NNCF_VENV)
	$(PYTHON) -m venv $(NNCF_VENV)
	$(NNCF_VENV)/bin/python -m pip install --disable-pip-version-check --quiet --requirement $<
	@touch $@

# Where the stages of the training leave their results; what is there is not made again.
SKETCHBOOK_WORK ?= out/sketchbook
.PHONY: sketchbook
sketchbook: $(PARITY_VENV)/.made ## train the small model afresh, into out/models: hours on two cores, 8 GB of disk, a C++ compiler
	$(PARITY_VENV)/bin/python -u models/sketchbook/train --work '$(SKETCHBOOK_WORK)' --output out/models

# Where the full-shape checkpoint and all that is made of it lies: 30 GB. What is there is not made again.
FULL_WORK ?= $(TARGET)/full
NOTEBOOK_VENV := .venv-notebook
# An interpreter that has benches/notebook/requirements.txt already; without this, one is set up (3 GB).
NOTEBOOK_PYTHON ?= $(NOTEBOOK_VENV)/bin/python
.PHONY: bench-full
bench-full: runtime build $(if $(filter $(NOTEBOOK_VENV)/%,$(NOTEBOOK_PYTHON)),$(NOTEBOOK_VENV)/.made) ## measure a checkpoint of the published shapes, and the notebook's way on it: an hour and a half, 30 GB (FULL='--checkpoint DIR', '--layers 1 …')
	$(PYTHON) benches/full.py --pixart '$(abspath $(PIXART))' --work '$(abspath $(FULL_WORK))' --python '$(NOTEBOOK_PYTHON)' $(FULL)

$(NOTEBOOK_VENV)/.made: benches/notebook/requirements.txt
	rm -rf $(NOTEBOOK_VENV)
	$(PYTHON) -m venv $(NOTEBOOK_VENV)
	$(NOTEBOOK_VENV)/bin/python -m pip install --disable-pip-version-check --quiet --requirement $<
	@touch $@

# Where bench-pull makes a repository and pulls it to: 48 GB for the default one.
PULL_WORK ?= $(TARGET)/pull
.PHONY: bench-pull
bench-pull: runtime build ## take a published repository from a hub of our own to an image (PULL='--like OWNER/NAME --width 96 --layers 2 --text-layers 2')
	$(PYTHON) benches/pull.py --pixart '$(abspath $(PIXART))' --work '$(abspath $(PULL_WORK))' $(PULL)

# The folder of the pictures; those that are there are not drawn again. What follows `--` goes to `pixart generate`.
SCORE ?= out/score
.PHONY: score
score: runtime build ## tell which share of sketchbook's pictures follows its caption: draws 500 of them (eight minutes)
	cargo run --quiet --release --locked --example score -- $(SCORE) --pixart '$(PIXART)'

MODES_WORK ?= out/modes
.PHONY: quantize-modes
quantize-modes: runtime build ## tell what each way of quantising costs sketchbook's pictures: 14,000 of them, half an hour
	$(PYTHON) benches/modes.py --pixart '$(abspath $(PIXART))' --work '$(MODES_WORK)'

$(PARITY_VENV)/.made: tests/golden/requirements.txt
	rm -rf $(PARITY_VENV)
	$(PYTHON) -m venv $(PARITY_VENV)
	$(PARITY_VENV)/bin/python -m pip install --disable-pip-version-check --quiet --requirement $<
	@touch $@

.PHONY: sdk
sdk: $(CLIENTS_VENV)/.made $(if $(shell command -v npm),$(CLIENTS)/node_modules/.made) clients-pixart ## draw through the unmodified OpenAI SDKs of Python and npm (fetches them, 145 MB)
	@$(CLIENTS_VENV)/bin/python $(CLIENTS)/sdk.py --pixart '$(or $(CLIENTS_PIXART),$(PIXART))'

.PHONY: contract
contract: $(CLIENTS_VENV)/.made clients-pixart ## hold the service to openapi.yaml with thousands of generated requests (QUICK=1: hundreds)
	@QUICK='$(QUICK)' $(CLIENTS_VENV)/bin/python $(CLIENTS)/contract.py --pixart '$(or $(CLIENTS_PIXART),$(PIXART))'

.PHONY: e2e
e2e: $(E2E)/node_modules/.made chromium clients-pixart ## use the page as people do, in Debian's Chromium (fetches what drives it, 18 MB)
	@$(IN_CHROMIUM) node --test --test-concurrency=1 --test-reporter=spec $(E2E_TESTS)

.PHONY: screenshots
screenshots: $(E2E)/node_modules/.made chromium clients-pixart ## take the pictures of the page in docs/images afresh
	@$(IN_CHROMIUM) node $(E2E)/screenshots.mjs

IN_CHROMIUM = PIXART_E2E_BINARY='$(abspath $(or $(CLIENTS_PIXART),$(PIXART)))' PIXART_E2E_CHROMIUM='$(CHROMIUM)'

# Debian's, which root installs where it is missing; everybody else is told.
.PHONY: chromium
chromium:
	@test -x '$(CHROMIUM)' || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || { \
	    echo '$(CHROMIUM) is not here: apt-get install chromium, or name another one with CHROMIUM=/path/to/it' >&2; exit 1; }

.PHONY: lint-deploy
lint-deploy: $(DEPLOY_VENV)/.made deploy-tools ## check image, compose, Kubernetes, HAProxy, Prometheus and Grafana by their linters
	@$(DEPLOY)/lint.sh $(DEPLOY_VENV)/bin

.PHONY: test-deploy
test-deploy: $(DEPLOY_VENV)/.made deploy-tools clients-pixart ## run the image's tree as a container would, under Prometheus, and behind HAProxy
	@$(DEPLOY_VENV)/bin/python $(DEPLOY)/tree.py --pixart '$(or $(CLIENTS_PIXART),$(PIXART))'
	@$(DEPLOY_VENV)/bin/python $(DEPLOY)/observe.py --pixart '$(or $(CLIENTS_PIXART),$(PIXART))'
	@$(DEPLOY_VENV)/bin/python $(DEPLOY)/replicas.py --pixart '$(or $(CLIENTS_PIXART),$(PIXART))'

# Debian's, which root installs where one is missing; everybody else is told. None of them is started as a service.
DEPLOY_TOOLS := bubblewrap:bwrap haproxy:haproxy prometheus:promtool
.PHONY: deploy-tools
deploy-tools:
	@missing=$$(for tool in $(DEPLOY_TOOLS); do \
	        PATH="$$PATH:/usr/sbin" command -v "$${tool#*:}" >/dev/null || printf '%s ' "$${tool%:*}"; done); \
	    test -z "$$missing" || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && \
	    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; } || { \
	    echo "these are not here: apt-get install $$missing" >&2; exit 1; }

$(DEPLOY_VENV)/.made: $(DEPLOY)/requirements.txt
	rm -rf $(DEPLOY_VENV)
	$(PYTHON) -m venv $(DEPLOY_VENV)
	$(DEPLOY_VENV)/bin/python -m pip install --disable-pip-version-check --quiet --requirement $<
	@touch $@

.PHONY: clients-pixart
clients-pixart: runtime $(if $(CLIENTS_PIXART),,build)

$(CLIENTS_VENV)/.made: $(CLIENTS)/requirements.txt
	rm -rf $(CLIENTS_VENV)
	$(PYTHON) -m venv $(CLIENTS_VENV)
	$(CLIENTS_VENV)/bin/python -m pip install --disable-pip-version-check --quiet --requirement $<
	@touch $@

$(CLIENTS)/node_modules/.made: $(CLIENTS)/package-lock.json
	npm ci --prefix $(CLIENTS) --no-audit --no-fund --loglevel=error
	@touch $@

$(E2E)/node_modules/.made: $(E2E)/package-lock.json
	@command -v npm >/dev/null || { echo 'npm is not here: install Node.js 20 or later, with npm' >&2; exit 1; }
	npm ci --prefix $(E2E) --no-audit --no-fund --loglevel=error
	@touch $@

.PHONY: fuzz
fuzz: ## fuzz one parser (FUZZ_TARGET=prompt FUZZ_SECONDS=60); needs cargo-fuzz and a C++ compiler
	@command -v cargo-fuzz >/dev/null || { \
	    echo 'cargo-fuzz is not here: cargo install --locked cargo-fuzz; the targets are in fuzz/README.md' >&2; exit 1; }
	RUSTC_BOOTSTRAP=1 cargo fuzz run $(FUZZ_TARGET) -- -max_len=16384 -max_total_time=$(FUZZ_SECONDS)

.PHONY: clean
clean: ## remove all that was built and fetched (the cache of the embedded model's IR stays)
	cargo clean
	rm -rf .openvino .tools $(PARITY_VENV) $(CLIENTS_VENV) $(DEPLOY_VENV) $(NOTEBOOK_VENV) $(CLIENTS)/node_modules $(E2E)/node_modules out fuzz/target
