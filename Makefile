# Each target makes what it needs: a .venv if there is none, then the extras it uses, pinned by constraints.txt.
# An environment already in .venv is used as it is. Another Python: make test PYTHON=python3.13
# A smaller torch on Linux without a GPU:
#   make demo TORCH="torch==2.13.0+cpu --extra-index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
TORCH  ?= torch==2.13.0
BIN    := .venv/bin
# Two at a time, a file each: more share the same memory and gain little on two cores.
TOGETHER := -n 2 --dist loadfile --no-loadscope-reorder
PIP    := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all check bench docs clean

help:  ## this list
	@echo "make demo      a foundation model at work on real galaxies; writes demo/index.html, and serves the explorer (SERVE=--no-serve: not)"
	@echo "make test      the tests, without the slow ones"
	@echo "make test-all  all tests, with all extras: none is skipped for want of a package"
	@echo "make check     ruff, mypy and the house rules"
	@echo "make bench     speed against the reference implementations, as ratios: docs/speed.md"
	@echo "make docs      the documentation as a site: build/docs/index.html"
	@echo "make clean     remove caches and what demo wrote; .venv and runs/ stay"

demo: .venv/.ready-demo
	@$(BIN)/omnisky demo $(SERVE)

test: .venv/.ready-test
	@$(BIN)/python -m pytest -q $(TOGETHER)

test-all: .venv/.ready-test-all
	@$(BIN)/python -m pytest -q -m "" $(TOGETHER)

check: .venv/.ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_house.py

bench: .venv/.ready-bench
	@$(BIN)/python -m benchmarks
	@$(BIN)/python -m benchmarks.scaling
	@$(BIN)/python -m benchmarks --page docs/speed.md

docs: .venv/.ready-docs
	@$(BIN)/python -m sphinx -W --keep-going -q docs build/docs
	@echo "build/docs/index.html"

clean:
	rm -rf demo build dist docs/api .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the environment: one stamp a set of extras, made again when the pins or the dependencies change ---

EXTRAS_demo := plot,map,sample,mock,serve
EXTRAS_test := dev,plot,map,sample,mock,serve,ann
EXTRAS_test-all := $(EXTRAS_test),docs,hats,hf,peers
EXTRAS_bench := dev,serve,ann,hats
EXTRAS_docs := docs,plot,map,sample,mock,serve

.venv/.ready-%: pyproject.toml constraints.txt .venv/.ready-torch
	@echo "→ omnisky[$(EXTRAS_$*)] into .venv (a few minutes the first time)"
	@$(PIP) -e ".[$(EXTRAS_$*)]"
	@touch $@

# torch first and by its exact version: a bare range would let pip choose another build.
.venv/.ready-torch: constraints.txt | $(BIN)/python
	@echo "→ $(TORCH) into .venv"
	@$(PIP) $(TORCH)
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Omnisky needs Python 3.11 or newer. Try: make PYTHON=python3.12")'
	@echo "→ .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv
