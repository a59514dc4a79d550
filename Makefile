# Two commands on a fresh machine:   make generate PROMPT="a red apple, 3d style"      make test
.DEFAULT_GOAL := help
.PHONY: help generate test test-slow check format bench docs clean

PYTHON ?= python3
VENV   ?= .venv
# The version everything is measured with; any torch>=2.6 that is installed first will do (TORCH="torch>=2.6").
TORCH  ?= torch==2.13.0
PROMPT ?= a red apple, 3d style
ARGS   ?=

# As it was typed: neither make nor the shell reads anything into a $, a quote or a backtick.
override PROMPT := $(value PROMPT)
export PROMPT

BIN := $(VENV)/bin

help:  ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.core: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Sfumato needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; name another one with PYTHON=…" if sys.version_info < (3, 11) else 0)'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	  $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "This Python can't make environments; install its venv module (on Debian and Ubuntu: apt install python3-venv) and run make again" >&2; exit 1; }; \
	  $(PYTHON) -m venv $(VENV); }
	$(BIN)/python -m pip install -q --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(BIN)/python -m pip install -q --disable-pip-version-check -e ".[dev]"
	# Its sampling module alone is used; what else it requires would bring another torch.
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps k-diffusion==0.1.1.post1
	@touch $@

generate: $(VENV)/.core  ## draw PROMPT with the bundled model (ARGS="--seed 1 -n 4" for more)
	@$(BIN)/sfumato generate $(ARGS) -- "$$PROMPT"

test: $(VENV)/.dev  ## the fast tests (ARGS="-k euler" for some)
	$(BIN)/python -m pytest -n 2 $(ARGS)

test-slow: $(VENV)/.dev  ## the tests at true sizes: minutes and gigabytes
	$(BIN)/python -m pytest -m slow $(ARGS)

check: $(VENV)/.dev  ## format, lint, types, floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## put the code in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.core  ## measure beside the peers on this machine, in 2.5 hours (ARGS="--only import", ARGS=--list, ARGS=--quick)
	$(BIN)/python -m bench $(ARGS)

docs: $(VENV)/.core  ## draw the documents' pictures again (ARGS="workflows.md" for one's)
	$(BIN)/python docs/draw.py $(ARGS)

clean:  ## remove the environment and caches
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
