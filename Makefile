# One target for each thing a person does here. `make help` lists them.
CARGO ?= cargo
BIN := $(CURDIR)/target/debug
# Debian keeps nft in sbin, which is not on every user's PATH.
export PATH := $(PATH):/usr/sbin:/sbin
# Seconds each fuzz target runs under `make fuzz`.
FUZZ_SECONDS ?= 60

.DEFAULT_GOAL := help
.PHONY: help build demo test test-all test-engine test-data-path test-budgets test-kept-charts test-charts lint fmt fuzz \
	bench bench-quick bench-l7 churn bench-micro bench-controller release manifests docs-values images \
	packages-demo packages-test packages-images packages-cluster cluster-build cluster-up test-cluster cluster-down \
	conformance-build conformance

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 15

TRIPLE = $(shell rustc -vV | sed -n 's/^host: //p')

# The Debian packages a target needs; installed (as root) or named.
packages-demo packages-test packages-images packages-cluster: packages-%:
	@.ci/packages $*

# Instructions and allocations of the data path's operations, held against bench/micro/budgets.txt.
COUNT := $(CARGO) test --locked --workspace --config bench/micro/optimised.toml --test budgets

build: ## build all programs (fast profile)
	$(CARGO) build --locked --workspace --bins

demo: packages-demo build ## the story from nothing: plain, mesh, denied, plain again; ends by itself
	$(BIN)/lateen demo

# Everything is built in one go first: tests run our programs from target/debug, and cargo builds the programs of other
# packages only when asked to. Then each part runs, whatever became of the ones before: one run tells all that fails.
test: packages-test ## build everything once and run all tests (as root: namespaces and rules are real)
	$(CARGO) build --locked --workspace --all-targets
	@$(MAKE) --no-print-directory --keep-going -j1 test-all test-engine test-data-path test-budgets test-kept-charts

test-all: # every test there is; finds everything built
	$(CARGO) test --locked --workspace --no-fail-fast

test-engine: # the policy engine is asked a million times
	LATEEN_CASES=1000000 $(CARGO) test --locked --workspace --lib the_engine_equals_the_slow_evaluator

test-data-path: # its suites once more, without the short cut between pods of one node
	SAME_NODE=hbone $(CARGO) test --locked --workspace --no-fail-fast --test 'ztunnel_*' --test 'mesh_*'

test-budgets: # some crates once more, optimised, and what operations of the data path cost
	$(COUNT)

test-kept-charts: # the charts, where helm is there already
	@if tests/helm/helm --kept; then $(CHARTS); else \
		echo "== the charts were NOT tested: helm is not built yet; make test-charts builds it (with Go) and tests them"; fi

CHARTS := $(CARGO) test --locked --workspace --test charts
test-charts: packages-test ## test the Helm charts (needs Go once, to build helm: two to three minutes)
	tests/helm/helm version --short
	$(CHARTS)

# A cluster of genuine Kubernetes programs on this machine, without Docker (tests/cluster/README.md).
cluster-build: packages-cluster ## build Kubernetes, etcd and CoreDNS into the cache, once (needs Go; about 15 minutes)
	tests/cluster/build

cluster-up: packages-cluster cluster-build build ## start two nodes of Kubernetes on this machine (as root)
	tests/cluster/up

# KUBECONFIG=… tests on any cluster; LATEEN_HUB and LATEEN_TAG name images that it can pull. One test at a time: they change
# the one mesh of the cluster.
test-cluster: ## install the mesh on the test cluster, or on that of KUBECONFIG, and test it there
	$(CARGO) test --locked --workspace --test kubernetes -- --ignored --test-threads=1 --nocapture

cluster-down: ## take the test cluster away, whatever is left of it (as root)
	tests/cluster/down

conformance-build: packages-cluster ## build the Gateway API's conformance suite and its servers into the cache, once (needs Go; about 3 minutes)
	tests/conformance/build

# PART=mesh runs one part of it, and TEST=MeshPorts one test of the part (tests/conformance/run says more).
conformance: conformance-build ## run the Gateway API's conformance suite on the test cluster (as root); writes docs/conformance/
	tests/conformance/run $(PART) $(TEST)

# --workspace keeps the features of all crates as in `make test`, so that what tidy builds is not built again.
lint: ## formatting, clippy with warnings as errors, the walls (tests/tests/tidy)
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) test --locked --workspace --test tidy

fmt: ## format all code
	$(CARGO) fmt --all

fuzz: ## fuzz every decoder for FUZZ_SECONDS each (needs a nightly toolchain and cargo-fuzz)
	for target in $$($(CARGO) +nightly fuzz list --fuzz-dir tests/fuzz); do \
		$(CARGO) +nightly fuzz run --fuzz-dir tests/fuzz $$target -- -max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done

# What is measured, ztunnel and load, is the real release build; the lab around it need not be fast.
# PEER_ZTUNNEL=/path measures another ztunnel beside ours. RESUME=1 goes on where an interrupted run ended.
bench: packages-demo build ## measure everything beside no mesh and PEER_ZTUNNEL, half an hour (as root); writes bench/ and the README's table
	$(CARGO) build --locked --release -p lateen-ztunnel -p lateen-load
	$(BIN)/lateen-bench run --ours target/release/ztunnel --load target/release/lateen-load --profile \
		--out bench $(if $(RESUME),--resume) $(BENCH); code=$$?; $(BIN)/lateen-bench readme && exit $$code

bench-quick: packages-demo build ## two minutes of measuring (as root; optimised without LTO, for speed of build); writes target/bench-quick/
	$(CARGO) build --locked --profile quick -p lateen-ztunnel -p lateen-load
	$(BIN)/lateen-bench run --quick --ours target/quick/ztunnel --load target/quick/lateen-load --out target/bench-quick \
		$(if $(RESUME),--resume) $(BENCH)

# What is measured, proxy and load, is the real release build. PEER_ENVOY=/path measures an Envoy beside ours.
bench-l7: build ## requests through our waypoint beside PEER_ENVOY, five minutes (as root); writes bench/l7.json and bench/L7.md
	$(CARGO) build --locked --release -p lateen-waypoint -p lateen-load
	$(BIN)/lateen-bench l7 --ours target/release/waypoint --load target/release/lateen-load --out bench $(BENCH)

churn: packages-demo build ## whether ztunnel's memory grows while connections, pods and policies come and go: MINUTES (30), as root
	$(CARGO) build --locked --release -p lateen-ztunnel -p lateen-load
	$(BIN)/lateen-bench churn --ours target/release/ztunnel --load target/release/lateen-load --minutes $(or $(MINUTES),30)

bench-micro: packages-test ## count what operations of the data path cost, in instructions and allocations, beside their budgets
	$(COUNT) -- --nocapture

docs-values: ## write the tables of docs/install.md from the charts' values
	$(CARGO) test --locked --workspace --test deploy -- --ignored write_docs

manifests: ## render deploy/charts into deploy/manifests (needs Go once, to build helm)
	deploy/manifests/render

# The plugin runs on the node itself, whatever its libraries are, so it is linked with none.
images: packages-images release ## OCI images of the mesh, as shipped, and of the demo's pods into target/images, for `ctr images import`
	RUSTFLAGS="-C target-feature=+crt-static" $(CARGO) build --locked --release -p lateen-cni-plugin --target $(TRIPLE)
	deploy/images/build --out target/images --bin target/release --plugin target/$(TRIPLE)/release/lateen-cni
	deploy/images/build --out target/images --bin target/release --hub docker.io/library --tag v1 echo
	deploy/images/build --out target/images --bin target/release --hub docker.io/library --tag latest sleep

# The controller is built as shipped, what it is measured with only optimised. PEER_ISTIOD=/path measures Istio's
# pilot-discovery beside it.
bench-controller: ## what 1,000 nodes, 50,000 pods and 100 changes a second cost the controller, five minutes; writes bench/ and the README's table
	$(CARGO) build --locked --release -p lateen-controller
	$(CARGO) build --locked --profile quick -p lateen-bench-controller
	target/quick/lateen-bench-controller run --ours target/release/lateen-controller --out bench \
		$(if $(PEER_ISTIOD),--peer $(PEER_ISTIOD)) $(BENCH)
	target/quick/lateen-bench-controller readme

# One by one, so that each has no feature that only another needs: what is shipped is what `make bench` measures.
release: ## the binaries to ship (LTO; slow to build)
	for package in ztunnel waypoint controller cni-plugin cni-agent cli; do \
		$(CARGO) build --locked --release -p lateen-$$package || exit 1; \
	done
