# Every target makes .venv when it is missing or older than pyproject.toml.
PYTHON ?= python3
VENV_PYTHON := .venv/bin/python
STAMP := .venv/.installed
# Two test processes with two threads each on two cores run 10 to 20 times slower than with one thread each.
PYTEST := OMP_NUM_THREADS=1 $(VENV_PYTHON) -m pytest

.PHONY: venv demo test test-processes test-slow bench lint types

venv: $(STAMP)

$(STAMP): pyproject.toml
	@echo "making .venv: about 6 GB are fetched, which takes some minutes"
	$(PYTHON) -m venv .venv
	$(VENV_PYTHON) -m pip install --quiet --editable '.[demo,dev]'
	touch $(STAMP)

demo: $(STAMP)
	$(VENV_PYTHON) -m hf_asr demo

test: $(STAMP)
	$(PYTEST) -m "not slow" -n 2

# torchrun with 2 and 4 processes (gloo, CPU): about two minutes on two cores.
test-processes: $(STAMP)
	$(PYTEST) -m slow tests/slow/test_two_processes.py -k "train_as_one and uneven"

test-slow: $(STAMP)
	$(PYTEST) -m slow

bench: $(STAMP)
	$(VENV_PYTHON) benchmarks/trainer_parity.py
	$(VENV_PYTHON) benchmarks/run.py --output docs/benchmarks.json
	$(VENV_PYTHON) benchmarks/table.py

lint: $(STAMP)
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .
	$(VENV_PYTHON) -m flake8 hf_asr recipes

types: $(STAMP)
	$(VENV_PYTHON) -m mypy hf_asr recipes
