# `make demo` and `make test` need nothing but Python 3.11 or newer: each builds the environment first.
VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.dependencies

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all lint type bench clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml
	@echo "Setting up $(VENV): PyTorch comes with its CUDA libraries, about 6 GB, some minutes."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip "setuptools>=77"
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable ".[dev]"
	touch $@

setup: $(STAMP)  ## create the environment in .venv/ (again only when pyproject.toml changes)
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .

demo: setup  ## train, attack, score and tabulate on the embedded demo: CPU, no download
	$(BIN)/python -m aloe_lightning

test: setup  ## the default test suite
	$(BIN)/python -m pytest -m "not slow"

test-all: setup  ## every test, the slow ones too
	$(BIN)/python -m pytest

lint: setup  ## ruff: style and format
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

type: setup  ## mypy, strict on src/
	$(BIN)/mypy

bench: setup  ## speed: ratios against a baseline in one run
	$(BIN)/python -m benchmarks

clean:  ## remove what runs and builds leave behind (not .venv/)
	rm -rf build dist outputs src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
