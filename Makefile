PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup repro seeds check test test-fast bench verify clean-scratch lock

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: .venv/installed  ## install everything into .venv from the lock file
	@git rev-parse --git-dir >/dev/null 2>&1 || $(BIN)/dvc config --local core.no_scm true

.venv/installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.x")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check --quiet --progress-bar off --require-hashes -r requirements.lock
	@touch $@

repro: setup  ## run what has changed, then show the comparison
	$(BIN)/dvc repro
	@echo
	@cat plots/comparison.md
	@echo "Figures: plots/*.png    Metrics: metrics/    Weights: models/    Charts: $(BIN)/dvc plots show"

check: setup  ## check style, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

test: setup  ## run all tests, two files at a time
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

test-fast: setup  ## run the tests that need no pipeline run
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow"

seeds: setup  ## repeat the whole pipeline with five seeds, then compare the methods over them
	$(BIN)/python -m stages.seeds
	$(BIN)/dvc repro
	@cat plots/comparison.md

bench: setup  ## measure the speed of pretraining on this machine, into benchmarks/results/
	$(BIN)/python -m benchmarks.throughput

verify: setup  ## check data and weights against the checksums in dvc.lock
	$(BIN)/python -m stages.verify

clean-scratch: setup  ## show and remove checkpoints of interrupted runs
	$(BIN)/python -m stages.clean_scratch

lock:  ## pin the newest versions that pyproject.toml allows (needs uv)
	uv pip compile --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    --extra export --group test pyproject.toml -o requirements.lock
