# `make quickstart` shows what binder-ner does, and `make test` runs all checks. Each target first installs its packages.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?= -n 2 --dist worksteal
BENCH_ARGS ?=

# The tests run in several processes, so each process uses one thread.
export TOKENIZERS_PARALLELISM := false
export HF_HUB_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help quickstart demo test lint types suite bench docs dist wheel-check format clean

help: ## show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

quickstart: $(VENV)/.installed-quickstart ## install, find entities, fine-tune on the sample corpus, draw entities (5 minutes)
	$(BIN)/python -m training.quickstart

demo: $(VENV)/.installed-demo ## open the demo page with demo/model; BINDER_MODEL=PATH chooses another checkpoint
	@test -n "$$BINDER_MODEL" || test -f demo/model/config.json || test -f checkpoints/quickstart/model.safetensors \
		|| $(BIN)/python -m training.quickstart
	@test -n "$$BINDER_MODEL" || test -f demo/model/config.json || export BINDER_MODEL=checkpoints/quickstart; \
		$(BIN)/python -m demo.app

test: lint types suite ## install, then run lint, types and suite

lint: $(VENV)/.installed-dev ## check the code and its formatting with ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev ## check types with mypy
	$(BIN)/mypy

suite: $(VENV)/.installed-dev ## run the tests; PYTEST_ARGS="-k pipeline" selects a part of them
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

bench: $(VENV)/.installed-bench ## measure speed and memory (hours); BENCH_ARGS="--quick --model PATH"
	$(BIN)/python -m training.benchmarks.speed $(BENCH_ARGS)

docs: $(VENV)/.installed-docs ## build the documentation site into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

dist: $(VENV)/.installed-dev ## build the wheel and the source distribution into dist/, and check them
	rm -rf build dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python .ci/check-dist

wheel-check: dist ## test the wheel in a clean environment; PYTHON=python3.12 chooses the version of Python
	.ci/check-wheel $(PYTHON)

format: $(VENV)/.installed-dev ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the virtual environments, caches and checkpoints
	rm -rf $(VENV) .bench build dist site checkpoints .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "binder-ner needs Python 3.10 or newer, but $(PYTHON) is " + sys.version.split()[0] + ". Choose another version: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# Extras that are installed together
EXTRAS_dev := quickstart,dev
EXTRAS_demo := quickstart,demo

$(VENV)/.installed-%: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing binder-ner[$(or $(EXTRAS_$*),$*)] into $(VENV) (a minute or two) ..."
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[$(or $(EXTRAS_$*),$*)]"
	@touch $@
