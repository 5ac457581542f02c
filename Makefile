# Each target creates .venv if necessary and installs what it needs.
PYTHON ?= python3
BIN := .venv/bin
TORCH := torch==2.13.0
# worksteal keeps tests of one module, and their servers and pages, on one worker until another is idle
PYTEST = $(BIN)/pytest -n auto --maxprocesses 4 --dist worksteal

# With other versions: the tests of what uses other packages. See CONTRIBUTING.md for what they leave out.
VERSIONED = -m 'not slow and not model and not hf and not browser' \
  tests/datasets tests/endpoints tests/targets tests/scorers tests/suite tests/reports tests/runs tests/mlflow \
  tests/middleware/test_response_cache.py tests/test_prompts.py tests/test_storage.py tests/test_testing.py \
  tests/cli/test_command_line.py tests/cli/test_compare.py tests/cli/test_exit_codes.py
# Everything that `pip install 'evalrunner[all]'` brings, in its newest versions.
SHIPPED = dist/requirements.txt

.PHONY: demo models test test-slow test-all test-lowest test-newest mutants compiled check format bench docs dist audit licenses clean

# Three runs of a small model on this machine: a gate that passes, two prompts compared, and a regression that a gate finds.
demo: .venv/.demo
	$(BIN)/evalrun suites/qa.yaml
	$(BIN)/evalrun suites/compare.yaml
	$(BIN)/evalrun suites/regression.yaml || test $$? -eq 1
	@echo 'The last run fails: its prompt has lost the text, and the gate finds that.'
	@echo 'To compare facts with a judge: EVALRUN_JUDGE=MODEL evalrun suites/factuality.yaml'

# The models that README, docs, suites and messages name exist and do not retire within six months.
models: .venv/.dev
	$(BIN)/python benchmarks/models.py

test: compiled
	$(PYTEST) -m 'not slow'

test-slow: compiled
	$(PYTEST) -m slow

test-all: compiled
	$(PYTEST)

# The oldest and the newest versions that pyproject.toml allows, each in its own environment.
test-lowest test-newest: test-%: .venv/.%
	.venv/$*/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal $(VERSIONED)

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

# Build the documentation as a site in dist/site. Broken links are errors.
docs: .venv/.dev
	$(BIN)/zensical build --clean --strict

# Build a wheel and a source distribution in dist/.
dist: .venv/.dev
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

# Known vulnerabilities of everything a user installs. A package that could not be checked is an error too.
audit: $(SHIPPED)
	@$(BIN)/uv tool run pip-audit --strict --no-deps --disable-pip --requirement $(SHIPPED) >dist/audit.txt 2>&1 \
	  && cat dist/audit.txt || { cat dist/audit.txt; grep -q '^Found [0-9]* known' dist/audit.txt \
	  && echo 'make audit: vulnerabilities are known, see above' >&2 \
	  || echo 'make audit: the vulnerability service did not answer for every package, so nothing is known about them; run it where the public Python package index is reachable without a mirror' >&2; exit 1; }

# Licenses of everything a user installs. pyphen may be used under the MPL 1.1; its other choices are (L)GPL.
licenses: $(SHIPPED)
	$(BIN)/uv venv --quiet --clear dist/shipped
	$(BIN)/uv pip install --quiet --python dist/shipped/bin/python --requirement $(SHIPPED)
	$(BIN)/uv tool run pip-licenses --python dist/shipped/bin/python --from mixed --with-urls
	$(BIN)/uv tool run pip-licenses --python dist/shipped/bin/python --from mixed --partial-match \
	  --fail-on GPL --ignore-packages pyphen >/dev/null

$(SHIPPED): pyproject.toml .venv/.dev
	mkdir -p dist
	$(BIN)/uv pip compile --quiet --no-header --no-annotate --extra all --output-file $(SHIPPED) pyproject.toml

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

.venv/.lowest .venv/.newest: .venv/.%: .venv/.dev
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv/$*
	$(BIN)/uv pip install --quiet --python .venv/$*/bin/python --editable '.[test]' \
	  --resolution $(if $(filter lowest,$*),lowest-direct,highest)
	touch $@

.venv/.mutation: .venv/.dev
	$(BIN)/uv pip install --quiet --python $(BIN)/python -e '.[mutation]'
	touch $@
