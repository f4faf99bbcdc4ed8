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
export OMP_NUM_THREADS := 1

.PHONY: help setup
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

setup: .venv/.installed $(if $(TORCH),.venv/.torch) ## make .venv from the locks (TORCH=1: with torch)

.venv/.uv: requirements/uv.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Gyral needs Python 3.11 or later; found %d.%d: run make PYTHON=python3.11" % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	touch $@

.venv/.locked: .venv/.uv requirements/base.txt requirements/dev.txt requirements/demo.txt
	$(PIP_INSTALL) --require-hashes $(patsubst %,-r %,$(filter requirements/%,$^))
	touch $@

.venv/.installed: .venv/.locked $(addsuffix /pyproject.toml,$(DISTRIBUTIONS))
	$(PIP_INSTALL) --no-deps --no-build-isolation $(patsubst %,-e %,$(DISTRIBUTIONS))
	touch $@

.venv/.torch: .venv/.locked requirements/torch.txt
	$(PIP_INSTALL) --require-hashes -r requirements/torch.txt
	touch $@
