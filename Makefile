# make demo and make test need Python 3.11, git and make only; each creates what it needs in .venv.
# Nothing here needs a C++ compiler: where there is none, compiled potentials are skipped and say so.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
WHEELS ?= wheels
PYTEST ?= $(BIN)/python -m pytest
# Processes for the tests. All tests of a file run in one process, in their order.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(len(os.sched_getaffinity(0)))')
SPREAD := -n $(WORKERS) --dist loadfile
TORCH  := $(shell sed -n 's/^\(torch==.*\)/\1/p' constraints.txt)
SETUP  := pyproject.toml setup.cfg constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint types docs gpu-check pins clean

help:  ## what there is to make
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST)

# The stamps keep a second make from installing again.
$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	touch $@

# pip compiles to byte code on one core, tests of packages included. The exit status is that of files for other Pythons.
BYTECODE = $(BIN)/python -m compileall -q -q -j 0 -x '/(tests?|templates)/' $(VENV)/lib || true

# torch goes first and by its exact version, so that a CPU build on the machine's own shelf is taken where there is one.
$(VENV)/.installed: $(SETUP) | $(VENV)/.made
	$(BIN)/python -m pip install --quiet --no-compile "$(TORCH)"
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e .
	$(BYTECODE)
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e ".[dev]"
	$(BYTECODE)
	touch $@

$(VENV)/.installed-demo: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e ".[conformers]"
	touch $@

# Some twenty atoms: a second thread costs more than it gives.
demo: export OMP_NUM_THREADS ?= 1
demo: $(VENV)/.installed-demo  ## aspirin and caffeine from their SMILES: 1 ps NVE and 2 ps Langevin dynamics
	rm -rf demo
	$(BIN)/mlff md organic --structure "CC(=O)Oc1ccccc1C(=O)O" --ensemble nve --temperature 300 --time 1ps --timestep 0.5 --output demo/aspirin
	$(BIN)/mlff md organic --structure "CN1C=NC2=C1C(=O)N(C)C(=O)N2C" --ensemble langevin --temperature 300 --time 2ps --timestep 1.0 --output demo/caffeine
	@echo "Look at demo/aspirin and demo/caffeine: open report.html in a browser."

test: $(VENV)/.installed-dev  ## the tests, without the slow ones
	$(PYTEST) $(SPREAD) -m "not slow and not gpu" $(PYTEST_ARGS)

test-all: $(VENV)/.installed-dev  ## the slow tests as well
	$(PYTEST) $(SPREAD) -m "not gpu" $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev  ## ruff
	$(BIN)/ruff check .

types: $(VENV)/.installed-dev  ## mypy
	$(BIN)/mypy

docs: $(VENV)/.installed-dev  ## run the tutorials, then build the site in docs/_build/html
	$(BIN)/python docs/run_tutorials.py
	$(BIN)/python -m sphinx -W --keep-going -q -j auto -b html docs docs/_build/html

gpu-check:  ## on a machine with a GPU and no network: contract tests and timings, results in gpu-check.json
	$(PYTHON) .ci/gpu_check.py --wheels "$(WHEELS)" --output gpu-check.json

pins: $(VENV)/.installed-dev  ## write constraints.txt anew from what .venv holds
	$(BIN)/python .ci/pins.py > constraints.txt.new && mv constraints.txt.new constraints.txt

clean:  ## remove what was built, .venv excepted
	rm -rf build dist demo docs/_build gpu-check.json *.egg-info .pytest_cache .mypy_cache .ruff_cache
