# Needs python3 (3.11 or newer) and make; everything else is installed beside the code on first use.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
DATA   ?= ./data/server
PORT   ?= 8000
ARGS   ?=

SYNCED  := .venv/.synced
BIN     := .venv/bin
BENCHES := $(filter-out bench/machine.py,$(wildcard bench/*.py))

# A uv that is on the PATH is used as it is, else one is installed into .uv/ at a known version.
UV_VERSION := 0.13.9
UV         := $(or $(shell command -v uv 2>/dev/null),$(CURDIR)/.uv/bin/uv)
export UV

.PHONY: help demo up test bench check format clean

help: ## Show what can be made.
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

demo: $(SYNCED) ## Walk through the whole platform on real imagery, from nothing, and end.
	@$(BIN)/geopera-server demo --data ./data/demo --port 0 $(ARGS)

up: $(SYNCED) ## Serve from DATA (./data/server) on PORT (8000) until Ctrl-C.
	@$(BIN)/geopera-server up --data $(DATA) --port $(PORT) $(ARGS)

test: $(SYNCED) ## Run the tests.
	@$(BIN)/pytest $(ARGS)

bench: $(SYNCED) ## Run the benchmarks; each prints ratios against a floor.
	@set -e; for bench in $(BENCHES); do echo "== $$bench"; $(BIN)/python $$bench; done

check: $(SYNCED) ## Check format, lint, types and import contracts.
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/ruff check --quiet
	@$(BIN)/mypy --no-error-summary
	@contracts=$$($(BIN)/lint-imports --no-logo --no-cache) || { echo "$$contracts"; exit 1; }
	@echo "Format, lint, types and import contracts hold."

format: $(SYNCED) ## Put the code into the format that `make check` asks for.
	@$(BIN)/ruff check --quiet --fix
	@$(BIN)/ruff format --quiet

clean: ## Remove what was installed and cached; the data in ./data stays.
	@rm -rf .venv .uv .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(SYNCED): uv.lock pyproject.toml | $(UV)
	@"$(UV)" sync --frozen --quiet
	@touch $@

# Debian's python3 comes without venv; its pip can still install into a folder.
$(CURDIR)/.uv/bin/uv:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, and $(PYTHON) is older or missing. Set PYTHON=/path/to/python3." >&2; exit 2; }
	@{ "$(PYTHON)" -m venv .uv >/dev/null 2>&1 && .uv/bin/python -m pip install --quiet "uv==$(UV_VERSION)"; } || \
	  { rm -rf .uv && "$(PYTHON)" -m pip install --quiet --target .uv "uv==$(UV_VERSION)"; } || \
	  { rm -rf .uv; echo "uv could not be installed: $(PYTHON) has neither a working venv nor pip, or there is no network." \
	    "Install uv (https://docs.astral.sh/uv), or on Debian and Ubuntu: apt install python3-venv. Then try again." >&2; exit 2; }
