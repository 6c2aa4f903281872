# One virtual environment serves all targets: `demo` needs the base dependencies only, the others add the dev tools.
# The stamps depend on pyproject.toml, so changed dependencies are installed on the next call.

VENV ?= .venv
# The first interpreter that is new enough; override with `make PYTHON=/path/to/python`.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$p; break; fi; done)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help demo test check bench docs clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS="$$(printf '\t')" read -r name text; \
		do printf '  make %-8s %s\n' "$$name" "$$text"; done

demo: $(VENV)/.base  ## plan the built-in problem, try the plan under bursts, correct it; writes runs/demo with a report
	@mkdir -p runs/demo
	$(BIN)/routerwise optimize demo --out runs/demo/promised.json --overwrite
	$(BIN)/routerwise validate runs/demo/promised.json plan-demo-bursts --gap \
		--out runs/demo/validation.json --overwrite || test $$? -eq 3  # 3: broken, as it should be
	$(BIN)/routerwise plan demo plan-demo-bursts --out runs/demo/corrected.json --overwrite
	$(BIN)/routerwise run plan-demo-bursts --plan runs/demo/corrected.json --replications 15 --slo "ttft:300 tpot:60" \
		--out runs/demo/corrected --overwrite
	$(BIN)/routerwise report runs/demo --out runs/demo/report.html --overwrite

test: $(VENV)/.dev  ## run all tests, on all cores
	$(BIN)/python -m pytest -q -n auto

check: $(VENV)/.dev  ## lint, formatting, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev  ## measure the simulator's speed
	$(BIN)/python -m benchmarks

docs: $(VENV)/.docs  ## build the documentation site into docs/_build/html; a warning is an error
	$(BIN)/sphinx-build --builder html --fail-on-warning --keep-going --nitpicky --jobs auto --quiet docs docs/_build/html
	@echo "docs/_build/html/index.html"

clean:  ## remove the environment, caches, the built documentation and runs/demo
	rm -rf $(VENV) *.egg-info build docs/_build docs/generated .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis runs/demo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name one: make PYTHON=/path/to/python" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.base: pyproject.toml | $(VENV)/.python
	$(PIP) install -e .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.python
	$(PIP) install -e ".[dev]"
	@touch $(VENV)/.base $@

$(VENV)/.docs: pyproject.toml | $(VENV)/.python
	$(PIP) install -e ".[docs]"
	@touch $(VENV)/.base $@
