# The entry points. Every recipe prints what it does; CI calls only these.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CACHE := $(or $(MERIDIAN_CACHE),$(HOME)/.cache/meridian)
DENY_VERSION := 0.20.2
LAB ?= target/debug/lab

.PHONY: help demo demo-down lab lab-down build images test test-full unit unit-newer scenarios clusters faults faults-full bench-engine bench-agent bench-failover bench-hub mutants api-check check fmt generate

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## Three clusters, a hub and one Active-Active database that converges; stays running
	@tools/prerequisites.sh
	@$(MAKE) --no-print-directory build images
	@target/debug/demo up

demo-down: ## Remove what `make demo` started
	@[ -x target/debug/demo ] || $(MAKE) --no-print-directory build
	@target/debug/demo down

lab: ## Three real Kubernetes clusters of three nodes
	@tools/prerequisites.sh
	@cargo build -q -p meridian-integration --bin lab
	@$(LAB) up --clusters 3 --nodes 3

lab-down: ## Remove the clusters
	@cargo build -q -p meridian-integration --bin lab
	@$(LAB) down

build: ## Build every program and the Valkey module (debug)
	@cargo build --workspace --bins --lib
	@cargo build -p crdt-module

images: build ## Build the images of agent, node and hub
	@tools/build-images.sh

unit: ## Unit, property and engine tests: no Kubernetes
	@tools/prerequisites.sh --only apt,valkey
	@cargo build -p crdt-module -p meridian-node
	@cargo test --workspace
	@$(MAKE) --no-print-directory unit-newer

unit-newer: ## What depends on Valkey, by the newer one that is bundled (half a minute)
	@MERIDIAN_VALKEY_SERVER=$(CURDIR)/tools/valkey-server-9.1 cargo test --workspace --test server
	@MERIDIAN_VALKEY_SERVER=$(CURDIR)/tools/valkey-server-9.1 cargo test --workspace --test replicas -- commands users keeping

# A lab and a state of their own, so that a running demo is left alone.
scenarios: export MERIDIAN_LAB_ID = 1
scenarios: export MERIDIAN_LAB_STATE = $(CURDIR)/.lab-test
scenarios: export MERIDIAN_STATE = .demo-test
scenarios: ## Scenario tests on real clusters
	@tools/prerequisites.sh
	@$(MAKE) --no-print-directory build images
	@cargo test --workspace --features meridian-hub/lab --lib -- store::etcd session::tests::replicas clock::tests
	@cargo test --workspace --features meridian-hub/lab --test hub_replicas -- --test-threads=2
	@cargo test --workspace --features meridian-integration/lab --test hub_stores # 20 s
	@cargo test --workspace --features meridian-integration/lab --test sign_in # 15 s
	@cargo test --workspace --features meridian-integration/lab --test beside_vendor # 30 s
	@cargo test -p meridian-integration --features lab --lib --test lab
	@cargo test -p meridian-integration --features lab --test admission -- --test-threads=2
	@target/debug/demo down
	@cargo test -p meridian-integration --features lab --test scenarios -- --test-threads=1 || { [ -n "$${KEEP:-}" ] || target/debug/demo down; exit 1; }
	@target/debug/demo down

clusters: export MERIDIAN_LAB_ID = 2
clusters: export MERIDIAN_LAB_STATE = $(CURDIR)/.lab-clusters
clusters: ## The life of a REC on a cluster of five nodes: rollout, versions, growth, deletion
	@tools/prerequisites.sh
	@$(MAKE) --no-print-directory build images
	@$(LAB) down
	@cargo test -p meridian-integration --features lab --test clusters -- --test-threads=1 --skip faults:: || { [ -n "$${KEEP:-}" ] || $(LAB) down; exit 1; }
	@$(LAB) down

faults: export MERIDIAN_LAB_ID = 2
faults: export MERIDIAN_LAB_STATE = $(CURDIR)/.lab-clusters
faults: ## Every fault that a replicated database can meet, on a real cluster; FULL=1: ten minutes without the API server
	@tools/prerequisites.sh
	@$(MAKE) --no-print-directory build images
	@$(LAB) down
	@cargo test -p meridian-integration --features lab --test clusters -- --test-threads=1 faults:: || { [ -n "$${KEEP:-}" ] || $(LAB) down; exit 1; }
	@$(LAB) down

faults-full: export MERIDIAN_LAB_ID = 2
faults-full: export MERIDIAN_LAB_STATE = $(CURDIR)/.lab-clusters
faults-full: ## The faults that last, for ten minutes each: no API server, and a store that goes back (half an hour)
	@tools/prerequisites.sh
	@$(MAKE) --no-print-directory build images
	@$(LAB) down
	@FULL=1 cargo test -p meridian-integration --features lab --test clusters -- --test-threads=1 faults::nobody_notices_that_the_api_server_is_away faults::a_store_that_goes_back_in_time || { [ -n "$${KEEP:-}" ] || $(LAB) down; exit 1; }
	@$(LAB) down

bench-engine: ## What the module costs each operation, in instructions and in time, against plain Valkey (release build)
	@tools/prerequisites.sh --only apt,valkey
	@command -v valgrind >/dev/null || apt-get install -y -q --no-install-recommends valgrind >/dev/null
	@cargo build --release -q -p crdt-module
	@cargo bench -q -p crdt-module --bench cost

bench-agent: export MERIDIAN_LAB_ID = 3
bench-agent: export MERIDIAN_LAB_STATE = $(CURDIR)/.lab-bench
bench-agent: ## What the agent costs with two hundred databases, and how fast it is (release build); SHORT=1: these alone
	@tools/prerequisites.sh
	@cargo build --workspace --bins --lib
	@cargo build --release -p meridian-agent -p meridian-node -p crdt-module
	@tools/build-images.sh --profile release agent node
	@$(LAB) down
	@cargo bench --profile dev -p meridian-integration --features lab --bench agent -- $(if $(SHORT),--short) || { [ -n "$${KEEP:-}" ] || $(LAB) down; exit 1; }
	@$(LAB) down

bench-failover: export MERIDIAN_LAB_ID = 4
bench-failover: export MERIDIAN_LAB_STATE = $(CURDIR)/.lab-failover
bench-failover: ## Failover by cause on a real cluster: RUNS=30 ONLY=pod-killed FULL=1 RECORD=FILE
	@tools/prerequisites.sh
	@$(MAKE) --no-print-directory build images
	@target/debug/failover-bench --runs $(or $(RUNS),5) $(addprefix --only ,$(ONLY)) $(if $(FULL),--full) $(addprefix --record ,$(RECORD)) || { [ -n "$${KEEP:-}" ] || $(LAB) down; exit 1; }
	@$(LAB) down

bench-hub: ## What the hub costs and how fast it is with thousands of simulated agents (release build): SHORT=1 ONLY=load|scale|members|replicas|observe|stopped MEMBERS=1000
	@tools/prerequisites.sh --only apt,kubernetes
	@cargo build --release -p meridian-hub -p meridian-agent --bins
	@cargo bench --profile dev -p meridian-integration --features lab --bench hub -- --hub target/release/meridian-hub --agent target/release/meridian-agent $(if $(SHORT),--short) $(addprefix --only ,$(ONLY)) $(addprefix --members ,$(MEMBERS))

test: unit scenarios ## Everything that must be green before a change lands

test-full: ## The same tests with full property cases, a million random specs, and ten thousand seeds of the simulation
	@PROPTEST_CASES=20000 MERIDIAN_SPECS=1000000 MERIDIAN_SEEDS=10000 MERIDIAN_MODEL_RUNS=3000 $(MAKE) --no-print-directory test clusters faults faults-full mutants

mutants: ## Remove each guard in turn and show the test that then fails
	@tools/prerequisites.sh --only apt,valkey,kubernetes
	@cargo run -q -p meridian-integration --bin mutants

api-check: ## Ask a running hub everything that its OpenAPI document allows, and compare the answers with it
	@tools/api-check.sh

fmt: ## Format the code
	@cargo fmt --all

generate: ## Write the generated files (deploy/crds, deploy/fields.md, deploy/openapi.json, full objects)
	@cargo run -q -p meridian-api --example generate
	@MERIDIAN_WRITE=1 cargo test -q -p meridian-api --test fields
	@MERIDIAN_WRITE=1 cargo test -q -p meridian-hub --lib the_committed_document_is_current

check: ## Format, lints, licences, house rules, generated files
	@tools/prerequisites.sh --only apt
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets --all-features -- -D warnings
	@[ -x "$(CACHE)/tools/bin/cargo-deny" ] || { echo "==> building cargo-deny $(DENY_VERSION), once"; cargo install -q --locked --root "$(CACHE)/tools" cargo-deny@$(DENY_VERSION); }
	"$(CACHE)/tools/bin/cargo-deny" --all-features check bans licenses sources
	cargo test -q -p meridian-integration --test tidy
	cargo test -q -p meridian-api --test generated
