# Each target creates .venv if necessary and installs what it needs.
PYTHON ?= python3
BIN := .venv/bin
TORCH := torch==2.13.0
# worksteal keeps tests of one module, and their servers and pages, on one worker until another is idle
PYTEST = $(BIN)/pytest -n auto --maxprocesses 4 --dist worksteal

.PHONY: demo test test-slow test-all mutants compiled check format bench dist clean

demo: .venv/.demo
	$(BIN)/evalrun suites/qa.yaml

test: compiled
	$(PYTEST) -m 'not slow'

test-slow: compiled
	$(PYTEST) -m slow

test-all: compiled
	$(PYTEST)

# Takes about half an hour on two idle cores; a second run tests only the functions that changed.
mutants: .venv/.mutation
	$(BIN)/python benchmarks/mutants.py --processes 2

# The tests start evalrun hundreds of times; with PYTHONDONTWRITEBYTECODE each would compile it again.
compiled: .venv/.dev
	$(BIN)/python -m compileall -q evalrunner

check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/.dev
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/transports.py
	$(BIN)/python benchmarks/report.py

# Build a wheel and a source distribution in dist/.
dist: .venv/.dev
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

clean:
	rm -rf .venv runs dist mutants

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("evalrun needs Python 3.11 or newer: make PYTHON=python3.12 …" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv

.venv/.demo: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[local]'
	touch $@

# pip installs torch first, because a CPU build may come from an index that only pip is configured for; uv keeps it.
# uv resolves the hundred packages of the LiteLLM proxy in seconds, pip takes minutes.
.venv/.dev: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '$(TORCH)'
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -e '.[dev]'
	touch $@ .venv/.demo

.venv/.mutation: .venv/.dev
	$(BIN)/uv pip install --quiet --python $(BIN)/python -e '.[mutation]'
	touch $@
