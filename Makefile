# Every target sets up .venv by itself: nothing is needed but make and Python 3.11 or newer.
# SAFETRANSFER_MOCAP=DIR names a folder of motion-capture clips; without it people move by built-in ones.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# The first Python on the path that is new enough; PYTHON=... chooses another.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

.DEFAULT_GOAL := help
.PHONY: help demo demo-from-scratch test lint format bench docs likeness setup clean

help:
	@echo "make demo               move a kept agent to poles and people, fine-tune it, write demo/report.html"
	@echo "make demo-from-scratch  the same from nothing, with training from scratch beside it"
	@echo "make setup              only install, into .venv"
	@echo "make test               style, types and tests"
	@echo "make bench              speeds on this machine, as JSON"
	@echo "make docs               the documentation as a site, in site/"
	@echo "make likeness           the figure of docs/likeness.md, from the kept agents"
	@echo "make format             bring the code into the style that make test asks for"
	@echo "make clean              remove .venv, caches and what the demos wrote"

demo: $(READY)
	$(BIN)/safetransfer transfer --out demo --agent results/point/seed-2/pretrain \
		--seeds 2 --no-scratch --reference results/point --episodes 50

demo-from-scratch: $(READY)
	$(BIN)/safetransfer transfer --out demo-from-scratch

test: lint
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	$(BIN)/safetransfer bench camera --json
	$(BIN)/safetransfer bench env --json
	$(BIN)/safetransfer bench collector --json
	$(BIN)/safetransfer bench learner --json
	$(BIN)/safetransfer bench train --json
	$(BIN)/safetransfer bench peer --json

docs: $(READY)
	$(BIN)/mkdocs build

likeness: $(READY)
	rm -rf docs/likeness
	$(BIN)/safetransfer study --agent results/point/seed-*/pretrain --out docs/likeness

setup: $(READY)

# Runs again only when what is to be installed has changed.
$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { \
		echo "safetransfer needs Python 3.11 or newer; none was found on the path." >&2; \
		echo "Install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (some minutes the first time: PyTorch is large)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) demo demo-from-scratch site build dist src/*.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
