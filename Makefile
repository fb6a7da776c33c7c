PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup repro test bench verify clean-scratch lock

help:  ## what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: .venv/installed  ## .venv from the lock file

.venv/installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.x")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check --quiet --progress-bar off --require-hashes -r requirements.lock
	@touch $@

repro: setup  ## run what has changed, then show the comparison
	$(BIN)/dvc repro
	@echo
	@cat plots/comparison.md
	@echo "Pictures: plots/*.png    Numbers: metrics/    Weights: models/    Charts: $(BIN)/dvc plots show"

test: setup  ## run every test, two files at a time
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

bench: setup  ## measure how fast pretraining is here, into benchmarks/results/
	$(BIN)/python -m benchmarks.throughput

verify: setup  ## check that data and weights are the bytes that dvc.lock recorded
	$(BIN)/python -m stages.verify

clean-scratch: setup  ## show and remove what interrupted runs left to go on from
	$(BIN)/python -m stages.clean_scratch

lock:  ## pin the newest versions that pyproject.toml allows (needs uv)
	uv pip compile --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --group test pyproject.toml -o requirements.lock
