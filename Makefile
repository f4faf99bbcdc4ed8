# The one door. `make help` lists what is behind it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
PY := .venv/bin/python
UV := .venv/bin/uv
PIP_INSTALL := $(UV) pip install --quiet --python $(PY)
DISTRIBUTIONS := contracts $(wildcard libs/* infra/local services/*)
LOCK := $(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11
# Each into an environment of its own, which `make bench-serving` makes.
PEER_LOCKS := $(basename $(patsubst requirements/%,%,$(wildcard requirements/peers/*.in)))
# Before any numerical import, or the libraries' threads starve each other.
export OMP_NUM_THREADS ?= 1

.PHONY: help setup demo test test-long bench-data bench-data-long bench-serving bench-serving-long bench-density scale lint format types arch up down logs status env contracts picture lock ci clean
help: ## list the targets
	@grep -hE '^[a-z -]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z -]+):[^#]*## /  \1\t/' | expand -t 28

setup: .venv/.installed $(if $(TORCH),.venv/.torch) ## make .venv from the locks (TORCH=1: with torch)

demo: setup ## replay a year of flights through the loop (KEEP=1: leave the stack up)
	@examples/flights/demo.sh

# These mostly wait for whole stacks and processes; the others run beside them, on a stack of their own.
WHOLE := tests/bench tests/chaos tests/docs tests/e2e tests/services/trainer tests/services/validation

test: setup .venv/.torch lint types arch ## check everything, against real Kafka, Postgres and S3
	@mkdir -p out
	@$(PY) -m pytest $(WHOLE) > out/test-whole.log 2>&1 & whole=$$!; status=0; \
	$(PY) -m pytest $(addprefix --ignore=,$(WHOLE)) || status=1; \
	wait $$whole || status=1; cat out/test-whole.log; exit $$status

test-long: setup .venv/.torch ## the full kill runs, control replays and MinIO, up to an hour
	$(PY) -m pytest -m long --timeout 3600

bench-data: setup ## the data plane's figures against baselines of the same run, up to ten minutes
	@$(PY) -m tests.bench.data

bench-data-long: setup ## cost a row and memory over 20 million rows, up to forty minutes (ROWS=n: a smaller table)
	@$(PY) -m tests.bench.long $(if $(ROWS),--rows $(ROWS))

bench-serving: setup ## the gateway against KServe in the same run, up to ten minutes (PEERS=all: every one)
	@$(PY) -m tests.bench.serving $(if $(PEERS),--peers $(PEERS))

bench-serving-long: setup ## what the gateway holds over 10 million requests, a quarter of an hour
	@$(PY) -m tests.bench.serving.long

bench-density: setup ## 500 models in one runtime: what they hold, and what waking one takes; and a cold start, in two minutes
	@$(PY) -m tests.bench.serving.density

scale: setup ## write docs/scale.md, docs/serving-figures.md and their pictures from the reports
	$(PY) -m tests.bench.page
	$(PY) -m tests.bench.serving.page

lint: setup ## style and format of the sources
	.venv/bin/ruff check --quiet .
	.venv/bin/ruff format --check --quiet .
	$(if $(wildcard docker-compose.yml),.venv/bin/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml)

format: setup ## bring the sources into the house format
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

types: setup ## strict types of every portion of the namespace
	.venv/bin/mypy $(addsuffix /src,$(DISTRIBUTIONS)) $(wildcard tests examples)

arch: setup ## which way imports point
	.venv/bin/lint-imports --no-cache

up down logs status env: setup ## the local stack, without Docker
	@$(PY) -m gyral.local $@

contracts: setup ## regenerate schemas and documents from the events
	$(PY) -m gyral.contracts
	$(PY) -m gyral.testkit.openapi
	$(PY) -m gyral.testkit.pages
	$(PY) -m gyral.testkit.manifests

picture: setup ## draw the README's picture anew from the demo's report
	$(PY) -m gyral.testkit.picture

lock: .venv/.uv ## resolve requirements/*.in anew (UPGRADE=1: to the newest)
	cd requirements && for name in base dev demo torch uv $(PEER_LOCKS); do ../$(LOCK) $(if $(UPGRADE),--upgrade) $$name.in -o $$name.txt; done

ci: ## what a pull request must pass
	.ci/run

clean: ## forget .venv and what tools cached
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

.venv/.uv: requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Gyral needs Python 3.11 or later, found %d.%d; next: make PYTHON=python3.11" % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

.venv/.locked: .venv/.uv requirements/base.txt requirements/dev.txt requirements/demo.txt
	$(PIP_INSTALL) --require-hashes $(patsubst %,-r %,$(filter requirements/%,$^))
	@touch $@

.venv/.installed: .venv/.locked $(addsuffix /pyproject.toml,$(DISTRIBUTIONS))
	$(PIP_INSTALL) --no-deps --no-build-isolation $(patsubst %,-e %,$(DISTRIBUTIONS))
	@touch $@

.venv/.torch: .venv/.locked requirements/torch.txt
	$(PIP_INSTALL) --require-hashes -r requirements/torch.txt
	@touch $@
