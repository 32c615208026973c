# Common commands. `make demo` and `make test` are all a newcomer needs.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
OUTPUT ?= outputs/demo
# The CPU or a CUDA build of torch, e.g. TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
TORCH_INDEX_URL ?=
TORCH_INDEX := $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL),)
TORCH := $(shell sed -n 's/^\(torch==.*\)/\1/p' constraints.txt)
INSTALL := $(BIN)/pip install --quiet --constraint constraints.txt

.PHONY: demo smoke test test-slow fuzz lint bench clean

$(BIN)/python:
	@echo "creating $(VENV)"
	$(shell command -v $(PYTHON) || command -v python3) -m venv $(VENV)

$(VENV)/.torch: constraints.txt | $(BIN)/python
	@echo "installing $(TORCH)"
	$(BIN)/pip install --quiet $(TORCH) $(TORCH_INDEX)
	@touch $@

$(VENV)/.%: setup.cfg pyproject.toml constraints.txt $(VENV)/.torch
	@echo "installing cpgg_hf[$*]"
	$(INSTALL) --editable '.[$*]'
	@touch $@

demo: $(VENV)/.demo
	$(BIN)/cpgg demo --out $(OUTPUT)

# Trains every stage on a tiny data set and generates, in runs/smoke, in less than three minutes.
smoke: $(VENV)/.test
	PATH="$(CURDIR)/$(BIN):$$PATH" bash training_scripts/smoke.sh

test: $(VENV)/.test
	$(BIN)/python -m pytest -m "not slow" --numprocesses 2 --dist loadfile

test-slow: $(VENV)/.test
	$(BIN)/python -m pytest -m slow

# Mutated DICOM, NIfTI, mask, zip and CSV files; `make test` tries a tenth of them.
fuzz: $(VENV)/.test
	CPGG_FUZZ_CASES=20000 $(BIN)/python -m pytest tests/fuzz --capture=no

lint: $(VENV)/.test $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.test
	$(BIN)/python benchmarks/phantom_speed.py
	$(BIN)/python benchmarks/cohort_speed.py
	$(BIN)/python benchmarks/streaming_speed.py
	$(BIN)/python benchmarks/generation_speed.py

clean:
	rm -rf outputs build dist .pytest_cache .ruff_cache .mypy_cache
