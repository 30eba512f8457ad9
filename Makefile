# `make repro` and `make test` do all set-up themselves; set-up is done again only when the locks change.
# The first sentence of the comment above a target is its line in `make help`; a line `##@ TITLE` begins a group.

# The Python of .venv; unset, tools/install.sh takes the newest on PATH that fits.
export PYTHON ?=
VENV := .venv
READY := $(VENV)/.ready
DEV := $(VENV)/.ready-dev
# Stages run as `python -m stages.…`; the environment's python must be the first one found.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# matplotlib's backend. A notebook's shell may name one that this environment does not have.
export MPLBACKEND := Agg
# Keeps the order of `dvc metrics diff` the same from run to run, and text the same on every machine.
export PYTHONHASHSEED := 0
export PYTHONUTF8 := 1

# The page that `dvc plots` fills, scripts included. Its templates and plots/dvc.yaml are made with it.
PLOTS_PAGE := .dvc/plots_page.html

# One process runs all tests of a file. The slowest files start first (tests/helpers/slow_tests.py).
PYTEST := python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
QUICK_TESTS := $(addprefix tests/,common model pipeline stages tools repository micro_graph)
SLOW_TESTS := $(addprefix tests/,references hostile end_to_end)

.DEFAULT_GOAL := help
.PHONY: help setup repro dry-run test test-all lint check fix report impact diff verdict plan tables experiments bench clean-artifacts prune cache hook lock libraries audit watch gpu
.PHONY: push pull verify gc s3 s3-test

##@ Run

# Show this list; plain make does too.
help:
	@[ -t 1 ] && [ -z "$${NO_COLOR-}" ] && bold=$$(printf '\033[1m') plain=$$(printf '\033[0m') || bold= plain=; \
	awk -v bold="$$bold" -v plain="$$plain" "$$HELP" $(MAKEFILE_LIST)

# A comment belongs to the next target, even after variables; an empty line or a recipe ends it. A group may be continued later.
define HELP
/^##@ / { group = substr($$0, 5); if (!(group in lines)) { order[++groups] = group; lines[group] = "" } next }
/^# / { if (said == "") { said = substr($$0, 3); sub(/[.] .*|[.]$$/, "", said) } next }
/^[a-z0-9][a-z0-9-]*:([^=]|$$)/ && said != "" {
	name = $$0; sub(/:.*/, "", name)
	lines[group] = lines[group] sprintf("  %s%-15s%s %s\n", bold, name, plain, said)
}
!/^[A-Za-z_]+ *[?:+]?=/ { said = "" }
END { for (i = 1; i <= groups; i++) printf "%s%s%s%s\n%s", (i > 1 ? "\n" : ""), bold, order[i], plain, lines[order[i]] }
endef
export HELP

# Install what the pipeline needs into .venv. Other targets do this themselves; tests and the linter also install requirements-dev.txt.
setup: $(READY) $(PLOTS_PAGE)

DRAWN_BY := params.yaml model/tasks/table.py model/tasks/labels.py model/curves/charts.py model/curves/style.py \
	$(addprefix model/report/,vega.py charts.yaml bundle.py charts.js)
$(PLOTS_PAGE): $(READY) $(addprefix tools/generated/dvc_plots,.py .html) $(DRAWN_BY)
	@python -m tools.generated.dvc_plots

$(READY): requirements.txt requirements-cuda.txt requirements-data.txt $(if $(filter command line,$(origin PYTHON)),FORCE)
	@tools/install.sh $(VENV) requirements.txt requirements-cuda.txt requirements-data.txt
	@touch $@

FORCE:

$(DEV): requirements-dev.txt $(READY)
	@tools/install.sh $(VENV) requirements-dev.txt
	@touch $@

# Run everything that is out of date, on all cores; print the results, and where the plots are.
# JOBS=2: at most two instances side by side. CLUSTER=tls://HOST:8786, or a scheduler file: on Dask workers (docs/operations.md).
repro: $(READY) $(PLOTS_PAGE)
	@python -m stages.params
	@python -m pipeline.driver $(if $(filter command line,$(origin JOBS)),--jobs "$$JOBS") $(if $(filter command line,$(origin CLUSTER)),--cluster "$$CLUSTER")
	@python -m pipeline.check
	@echo && cat plots/results.md && echo && echo "Report: plots/report.html; plots: plots/figures/*.png, dvc plots show --open (writes dvc_plots/index.html)"

# Only a PAGE on make's command line counts; the environment's may be another program's.
PAGE_SAID = $(if $(filter command line,$(origin PAGE)),$(PAGE))

# Watch what runs here, with losses beside the committed run's (PAGE=1: as a page with the report's charts). Ctrl-C ends it (docs/operations.md).
# The page is on 127.0.0.1:8890, or on PORT=N. ONCE=1: print what runs now, and end.
watch: $(READY)
	@$(if $(filter-out 1,$(PAGE_SAID)),echo "error: watch: PAGE must be 1 or unset" >&2; exit 1,\
		python -m tools.live.watch $(if $(PAGE_SAID),--page $(if $(filter command line,$(origin PORT)),--port "$$PORT")) $(if $(filter command line,$(origin ONCE)),--once))

# Run the full-size profile from fetch to report on a slice, in a copy of the tree (docs/first_full_size_run.md); DIRECTORY must be new.
dry-run: $(READY)
	@python -m tools.dry_run "$${DIRECTORY:-$$(mktemp -d)}"

# Test the code, and one whole micro graph: five to six minutes on two cores.
test: $(DEV) $(PLOTS_PAGE)
	$(PYTEST) $(QUICK_TESTS)

# Run all tests except the longest, which `.ci/long` runs (tests/long).
test-all: $(DEV) $(PLOTS_PAGE)
	$(PYTEST) $(QUICK_TESTS) $(SLOW_TESTS)

# Check that dvc.yaml declares everything, and that no committed result is stale. About a second, no data needed.
check: $(READY)
	@python -m pipeline.check

# Write into dvc.yaml the lines that make check prints.
fix: $(READY)
	@python -m pipeline.check --fix

##@ Results

# Write report.html: the report, with a list of results that are stale now.
report: $(READY)
	@python -m tools.stale_report

# Show what uncommitted edits rerun, invalidate and cost (SINCE=main, SINCE=v1..v2: edits of a branch).
impact: $(READY)
	@python -m pipeline.impact $${SINCE:+"$$SINCE"}

# Show params and headline figures beside another revision's or experiment's (REV=main).
diff: $(READY)
	@echo "Differences of the working tree from $${REV:-main}:"
	@params="$$(dvc params diff "$${REV:-main}")" && echo "$${params:-no parameter}"
	@figures="$$(dvc metrics diff "$${REV:-main}" --precision 4 --no-path --targets metrics/comparison.json)" && echo && echo "$${figures:-no headline figure}"

# List the experiments, with the params in which they differ and the headline differences.
# NOISE: columns to drop. A name with a path is a hash, or a figure of one run.
NOISE = .*/|metrics$$|common$$|model$$|stages$$|scores$$|samples$$|checkpoints$$|.*losses$$|params.yaml$$|stages.yaml$$|dvc.contents.json$$|libraries.yaml$$|Executor|(bits_per_byte|combined|pretrained|fine_tuned)[.](?!.*_difference$$).*|.*[.](products|.*flexible|.*harness).*
experiments: $(READY)
	@dvc exp show --only-changed --hide-workspace --precision 4 --drop '$(NOISE)'

##@ Upkeep

# Measure speed and memory. Takes about two hours; run nothing else meanwhile.
# Compares training, scoring, generating and tokenizing with other programs; measures the cost of the seal, the driver and the pipeline.
bench: $(DEV)
	@python -m benchmarks.seal
	@python -m benchmarks.driver
	@python -m benchmarks.overhead
	@python -m benchmarks.train
	@python -m benchmarks.scoring
	@python -m benchmarks.generate
	@python -m benchmarks.tokenizing
	@python -m benchmarks.memory
	@python -m benchmarks.scale

# Test and measure what needs a GPU: about twenty minutes on one H100 (PARTS="training": some of it). Without a GPU it says so.
gpu: $(DEV)
	@python -m benchmarks.gpu $(if $(filter command line,$(origin PARTS)),$(PARTS))

# Delete models, generations and scores, to free the disk. Also deletes what killed training and fine-tuning would resume from.
clean-artifacts: $(READY)
	@python -m pipeline.leftover.prune --artifacts

# Remove results of runs that params.yaml no longer names; list them and ask first (YES=1: do not ask).
prune: $(READY)
	@python -m pipeline.leftover.prune

# Remove damaged objects from DVC's cache, so that dvc repro makes them again. Reads the whole cache.
cache: $(READY)
	@python -m pipeline.dvc_support.cache

##@ Share

# Send this tree's results and the run cache to the default DVC remote (docs/operations.md).
push: $(READY)
	@python -m pipeline.dvc_support.share push

# Fetch results and the run cache from the default DVC remote; nothing is computed.
pull: $(READY)
	@python -m pipeline.dvc_support.share pull

# Compare every byte of the cache and of the outputs with dvc.lock (MODEL=OWNER/NAME: of a published model).
verify: $(READY)
	@$(if $(filter command line,$(origin MODEL)),python -m tools.verify "$$MODEL" $(if $(filter command line,$(origin REV)),$${REV:+--revision "$$REV"}),\
		python -m pipeline.dvc_support.share verify)

# Only a CLOUD on make's command line counts; the environment's may be another program's.
CLOUD_SAID = $(if $(filter command line,$(origin CLOUD)),$(CLOUD))

# Remove from DVC's cache what no branch, tag or experiment needs (CLOUD=1: from the remote as well). DVC asks first.
gc: $(READY)
	@$(if $(filter-out 1,$(CLOUD_SAID)),echo "error: gc: CLOUD must be 1 or unset; make gc CLOUD=1 frees the remote as well" >&2; exit 1,\
		python -m pipeline.dvc_support.share gc $(if $(filter 1,$(CLOUD_SAID)),--cloud))

# Install what remotes on S3 need. No stage needs it, so requirements.txt does not have it.
s3: $(VENV)/.s3

# Install what the tests of S3 need, including a server.
s3-test: $(VENV)/.s3 $(VENV)/.s3-test

$(VENV)/.s3 $(VENV)/.s3-test: $(VENV)/.%: requirements-%.txt $(READY)
	@tools/install.sh $(VENV) $<
	@touch $@

$(VENV)/.s3-test: $(DEV)

##@ Upkeep

# Make git run the checks of .pre-commit-config.yaml before each commit, and merge dvc.lock stage by stage.
hook: $(DEV)
	@git config --unset-all core.hooksPath '^[.]githooks$$' || true
	pre-commit install --allow-missing-config
	git config merge.dvc-lock.name "dvc.lock stage by stage"
	git config merge.dvc-lock.driver ".venv/bin/python -m pipeline.dvc_support.merge_lock %O %A %B"
	git config merge.regenerated.name "this branch's file, which make repro makes again"
	git config merge.regenerated.driver true

##@ Results

# Write the tables of README.md and docs/ from plots/, and docs/parameters.md. `make lint` fails if one is stale.
tables: $(READY)
	@python -m tools.generated.doc_tables
	@python -m tools.generated.parameters

# Show which differences from another revision's figures are more than noise (REV=main).
verdict: $(READY)
	@python -m tools.verdict "$${REV:-main}"

# Compute how many seeds find a difference of X, from runs with several seeds (X=0.005, FIGURE="task score", OUTCOMES=file).
plan: $(READY)
	@python -m tools.plan "$$X" $${FIGURE:+--figure "$$FIGURE"} $${OUTCOMES:+--outcomes "$$OUTCOMES"}

##@ Upkeep

# List known vulnerabilities of the packages in the locks. Needs the internet, and pip-audit in an environment of its own.
audit: .audit/.ready
	@.audit/bin/python -m tools.audit

.audit/.ready: requirements-audit.txt
	@tools/install.sh .audit requirements-audit.txt
	@touch $@

##@ Run

# The linter, the formatter, types, spelling, and whether the generated parts of README and docs are current.
lint: $(DEV)
	ruff check . && ruff format --check .
	mypy
	git ls-files -z | xargs -0 codespell
	@python -m tools.generated.doc_tables --check
	@python -m tools.generated.parameters --check

##@ Upkeep

# Write the locks, for every Python and platform, with uv. Pins stay if they fit, except that of UPGRADE=numpy; UPGRADE=all renews all.
lock: $(READY)
	@python -m tools.lock $(UPGRADE)
	@$(MAKE) --no-print-directory libraries

# Write libraries.yaml, the versions that stages depend on, from requirements.txt.
libraries: $(READY)
	python -m pipeline.dvc_support.record libraries
