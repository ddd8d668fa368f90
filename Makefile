# The project's verbs. Each sets up what it needs in .venv/ and .cache/, inside this folder, and nothing elsewhere.

PYTHON ?= python3
# More arguments for the tests, as in: make test PYTEST="-k embedded -x"
PYTEST ?=
# How the demo's services take part in sagas: contract, plain or worker
SHAPE ?= contract
# How long to torture, and by which seed, as in: make torture SECONDS=120 SEED=7
SECONDS ?= 60
SEED ?= 1
# How many sagas to simulate by that seed; BATCH= replays one batch of the run and tells what went wrong in it
SAGAS ?= 10000
BATCH ?=

bin := .venv/bin
ready := .venv/.ready

export BUF_CACHE_DIR := $(CURDIR)/.cache/buf
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Errors must be readable in a terminal of any language setting.
export PYTHONUTF8 := 1

.DEFAULT_GOAL := help
.PHONY: help demo test prove check stock-clients lock simulate torture scale generate baseline clean bench bench-full bench-guard

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# The programs are exec'ed, so that Ctrl-C and SIGTERM reach them and not only a shell in between.
demo: $(ready) ## Run the main job for real: Postgres, the coordinator and three services, in under a minute
	@exec $(bin)/saga-coordinator demo --participants $(SHAPE)

test: $(ready) stock-clients ## Run the tests, on an embedded Postgres
	@exec $(bin)/python -m pytest --numprocesses auto --dist worksteal -m "not proof" $(PYTEST)

prove: $(ready) ## Run the longer tests: the simulation and its broken variants, torture, kills, clocks that lie
	@seed="$${FRESH_SEED:-$$($(bin)/python -c 'import secrets; print(secrets.randbelow(10**9))')}"; \
		echo "A fresh seed for the simulation: $$seed (again: make prove FRESH_SEED=$$seed); what it finds is kept in .cache/simulation/"; \
		FRESH_SEED="$$seed" exec $(bin)/python -m pytest --numprocesses auto --dist worksteal -m proof $(PYTEST)

check: $(ready) ## Prove formatting, types, architecture, the contract's style and that generated files are fresh
	$(bin)/ruff check --quiet
	$(bin)/ruff format --check --quiet
	$(bin)/mypy
	$(bin)/lint-imports --cache-dir .cache/import-linter
	$(bin)/buf lint
	$(bin)/buf breaking proto --against proto/baseline.binpb
	$(bin)/python -m tools.generate --check
	$(bin)/python -m tools.draw_state_machine --check
	$(bin)/python -m tools.draw_architecture --check
	$(bin)/python -m tools.list_settings --check
	$(bin)/python -m tools.simulate_examples --check
	$(bin)/python -m tools.document_sagactl --check
	$(bin)/python -m tools.find_leftovers
	$(bin)/python -m tools.check_citations

simulate: $(ready) ## Run SAGAS sagas on simulated time, network and Postgres by SEED, and judge every promise
	@exec $(bin)/python -m proof.simulation --sagas $(SAGAS) --seed $(SEED) $(if $(BATCH),--batch $(BATCH))

torture: $(ready) ## Kill, stop, cut and shift clocks of real processes for SECONDS, then check the books
	@exec $(bin)/python -m proof.torture --seconds $(SECONDS) --seed $(SEED)

scale: $(ready) ## Measure a burst, sick participants, a crowd and one more coordinator; takes minutes
	@exec $(bin)/python -m proof.torture.scale

generate: $(ready) ## Write the code generated from proto/, and the drawings and tables generated from the code
	$(bin)/python -m tools.generate
	$(bin)/python -m tools.draw_state_machine
	$(bin)/python -m tools.draw_architecture
	$(bin)/python -m tools.list_settings
	$(bin)/python -m tools.simulate_examples
	$(bin)/python -m tools.document_sagactl

baseline: $(ready) ## Take the contract as it is now for what may not be broken any more; at a release
	$(bin)/buf build proto --output proto/baseline.binpb

bench: $(ready) ## Measure sagas a second, latency and costs against floors and peers; minutes, on an otherwise idle machine
	@exec $(bin)/python -m bench

bench-full: $(ready) ## Measure everything at every size, and write docs/performance.md and its plots; takes an hour or so
	@$(bin)/python -c 'import matplotlib' 2>/dev/null || $(bin)/python -m pip install --quiet --editable '.[bench]'
	$(bin)/python -m bench --full
	$(bin)/python -m bench.plot
	$(bin)/python -m bench.document

bench-guard: $(ready) ## Fail where a change made sagas dearer than the baseline; holds on a busy machine
	@exec $(bin)/python -m bench.guard

# Clients that the acceptance tests speak with. Where there is no Go, these tests are skipped, but in CI they fail.
stock-clients: .cache/bin/grpcurl .cache/bin/ghz ## Build the stock gRPC clients that the tests speak with; needs Go

.cache/bin/grpcurl: module := github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3
.cache/bin/ghz: module := github.com/bojand/ghz/cmd/ghz@v0.121.0
.cache/bin/grpcurl .cache/bin/ghz:
	@if command -v go >/dev/null; then GOBIN=$(CURDIR)/.cache/bin go install $(module); \
	else echo "Going on without $(notdir $@): Go is not installed" >&2; fi

lock: $(ready) ## Write the exact versions and hashes that the image is built with, newest first
	@$(bin)/python -m uv --version >/dev/null 2>&1 || $(bin)/python -m pip install --quiet uv
	$(bin)/python -m tools.lock

clean: ## Remove everything that these verbs made
	rm -rf .venv .cache .saga .saga-demo .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An interrupted set-up leaves no stamp and is taken up again; a virtual environment without pip is made anew.
$(ready): pyproject.toml $(wildcard clients/*/pyproject.toml deploy/locks/*.txt)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Name another one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) lacks its venv module. Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(bin)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "Installing into .venv (the first time, a minute or two)"
	@$(bin)/python -m pip install --quiet --editable '.[dev,demo]' --editable clients/python --editable clients/sagactl
	@touch $@
