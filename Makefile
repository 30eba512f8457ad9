# `make repro` and `make test` do all set-up themselves; set-up is done again only when the locks change.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
READY := $(VENV)/.ready
# Stages run as `python -m stages.…`; the environment's python must be the first one found.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# Keeps the order of `dvc metrics diff` the same from run to run, and text the same on every machine.
export PYTHONHASHSEED := 0
export PYTHONUTF8 := 1

.PHONY: setup repro test lint check impact bench clean-artifacts hook lock libraries

setup: $(READY)

$(READY): requirements.txt requirements-data.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || \
		{ echo "error: $(or $(PYTHON),python3) is not Python 3.11, for which requirements.txt is locked; run make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-data.txt
	@touch $(READY)

repro: $(READY)
	@python -m stages.params
	dvc repro
	@python -m graph.record lock
	@python -m graph.record contents
	@python -m graph.check
	@echo && cat plots/results.md && echo && echo "Plots: plots/figures/*.png; interactive: dvc plots show --open (writes dvc_plots/index.html)"

test: $(READY)
	python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# Is everything declared, and are the committed results of this tree? About a second, no data needed.
check: $(READY)
	@python -m graph.check

# What an edit costs. `make impact` is for uncommitted edits; SINCE=main or SINCE=v1..v2 for what a branch changed.
impact: $(READY)
	@python -m graph.impact $(SINCE)

# What training, scoring, generating and tokenizing gain, and what the seal and the corpus cost. Alone on the machine, please; about two hours.
bench: $(READY)
	@python benchmarks/seal.py
	@python benchmarks/train.py
	@python benchmarks/scoring.py
	@python benchmarks/generate.py
	@python benchmarks/tokenize.py
	@python benchmarks/memory.py

# Frees the disk of models, generations and scores, and of what killed training and fine-tuning would have gone on from.
clean-artifacts:
	rm -rf checkpoints exports sft generations scores
	@echo "dvc repro brings all of it back from .dvc/cache, to the byte; rm -r .dvc/cache frees its copies too, and then dvc repro computes it again"

# From now on git refuses a commit that make check would.
hook:
	git config core.hooksPath .githooks

lint: $(READY)
	ruff check . && ruff format --check .

# A fresh environment from requirements.in, frozen. Build tags such as +cpu are cut: the lock serves every platform.
lock:
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	python -m pip install --quiet --disable-pip-version-check -r requirements.in
	{ echo "# The lock for Python 3.11, written by make lock from requirements.in."; pip freeze | sed 's/+.*//'; } > requirements.txt
	$(MAKE) libraries

libraries:
	python -m graph.record libraries
