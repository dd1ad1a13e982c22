# On a machine with Python 3.11 or newer and make: `make quickstart`, `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Which torch to install: the newest where a GPU answers, else a pinned one; TORCH=torch or TORCH=torch-cpu overrides.
TORCH ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1 && echo torch || echo torch-cpu)

.PHONY: quickstart install test-install test lint benchmark clean

quickstart: install
	@$(BIN)/diffbench data prepare ml-100k
	@$(BIN)/diffbench run quickstart/ml-100k
	@echo
	@echo "Browse it:  $(BIN)/diffbench tensorboard quickstart/ml-100k"

install: $(VENV)/.installed

test-install: $(VENV)/.test-installed

# Files of tests are shared out among processes; those that take longest begin.
TEST_PROCESSES ?= 2
test: test-install
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

lint: test-install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmark: test-install
	$(BIN)/python -m tests.benchmarks

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; set PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import torch' 2>/dev/null || $(MAKE) --no-print-directory $(TORCH)
	$(BIN)/python -m pip install --quiet -e .
	@touch $@

$(VENV)/.test-installed: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -e '.[test,text]'
	@touch $@

# With a GPU the newest release of torch; without one the release that is known to work, from TORCH_INDEX where it is
# set: the PyTorch project's index of CPU builds saves gigabytes on Linux.
TORCH_INDEX ?=
.PHONY: torch torch-cpu
torch:
	$(BIN)/python -m pip install --quiet torch

torch-cpu:
	$(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==2.13.0

clean:
	rm -rf $(VENV) .diffbench build *.egg-info .pytest_cache .mypy_cache .ruff_cache
