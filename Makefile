# `make quickstart` shows what binder-ner does; `make test` runs everything that must pass. Both start from nothing.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?= -n 2 --dist worksteal

# Several processes with several threads each would only fight over the cores.
export TOKENIZERS_PARALLELISM := false
export HF_HUB_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help quickstart test lint types suite format clean

help: ## show this help
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

quickstart: $(VENV)/.installed-quickstart ## install, fine-tune on the sample corpus, find nested entities (5 minutes)
	$(BIN)/python -m training.quickstart

test: lint types suite ## install, then lint, types and the whole test suite

lint: $(VENV)/.installed-dev ## ruff: errors and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev ## mypy
	$(BIN)/mypy

suite: $(VENV)/.installed-dev ## pytest alone; PYTEST_ARGS="-k pipeline" picks tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

format: $(VENV)/.installed-dev ## put the code into its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the virtual environment, caches and checkpoints
	rm -rf $(VENV) checkpoints .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "binder-ner needs Python 3.10 or newer, and $(PYTHON) is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.installed-%: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing binder-ner[$(if $(filter dev,$*),quickstart$(comma)dev,$*)] into $(VENV) (a minute or two) ..."
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[$(if $(filter dev,$*),quickstart$(comma)dev,$*)]"
	@touch $@

comma := ,
