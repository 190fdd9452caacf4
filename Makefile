# `make demo` and `make test` require only Python 3.11.4 or newer: each builds the environment first.
VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.dependencies

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all lint type docs bench reproduction-small clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml
	@echo "Setting up $(VENV): PyTorch comes with its CUDA libraries, about 6 GB, some minutes."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip "setuptools>=77"
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable ".[dev]"
	touch $@

setup: $(STAMP)  ## create the environment in .venv/, again only if pyproject.toml changes
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .

demo: setup  ## train, attack, score and tabulate the embedded demo: CPU, no download
	$(BIN)/python -m aloe_lightning

WORKERS ?= 2
test: setup  ## the default test suite, in WORKERS=2 processes of 2 GB each
	$(BIN)/python -m pytest -m "not slow" -n $(WORKERS) --dist worksteal

test-all: setup  ## all tests, including the slow ones
	$(BIN)/python -m pytest

lint: setup  ## check style and format with ruff
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

type: setup  ## check types with mypy, strict on src/
	$(BIN)/mypy

$(VENV)/.docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable ".[docs]"
	touch $@

docs: setup $(VENV)/.docs  ## build the documentation in build/docs/, with warnings as errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: setup  ## measure speed as ratios to a baseline in the same run
	$(BIN)/python -m benchmarks

DATA ?= $(ALOE_DATA)
reproduction-small: setup  ## compute docs/reproduction-small and its report.html: DATA=folder of the real images, 75 minutes
	$(BIN)/python -m aloe_lightning -m +sweep=paper +scale=small launcher=joblib paths.data=$(DATA) paths.verify=false \
	  paths.outputs=outputs/reproduction-small outliers=npy outliers.name=tiny_imagenet_32x32 \
	  outliers.path=$(DATA)/outliers/tiny_imagenet_32x32.npy 'ood=[textures,places365]' \
	  +ood.crop=$(DATA)/standin_lsun_crop +ood.resize=$(DATA)/standin_lsun_resize
	$(BIN)/python -m aloe_lightning.report outputs/reproduction-small --out docs/reproduction-small

clean:  ## remove all output of runs and builds, except .venv/
	rm -rf build dist outputs src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
