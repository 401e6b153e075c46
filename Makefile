# balance_tune: `make` alone lists what there is. Needs Python >= 3.11, make and git; everything else it installs into .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
ROOT   ?= studies

# One thread per process: trials run side by side, one per core.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help study test test-without-ray test-with-ray test-all test-cluster test-jobs faults miniatures check audit format docs ui bench bench-gpu calibrate clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python >= 3.11 is needed; say which: make PYTHON=python3.12"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)

study: $(READY)  ## install, then run the quickstart study on the embedded data (a few minutes; run again: it resumes)
	$(BIN)/balance-tune run search_spaces/quickstart.yaml --root $(ROOT)

test: test-without-ray test-with-ray  ## the test suite (minutes); make -j2 test runs its two parts side by side

test-without-ray: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not ray and not full and not faults and not cluster' $(PYTEST)

test-with-ray: $(READY)  # one after another: a machine has one Ray
	$(BIN)/python -m pytest -m 'ray and not full and not faults and not cluster' $(PYTEST)

test-all: $(READY)  ## everything: the whole contract table too
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not ray and not faults and not cluster' $(PYTEST)
	$(BIN)/python -m pytest -m 'ray and not faults and not cluster' $(PYTEST)

faults: $(READY)  ## break real studies in every way we know, and see that nothing is lost (half an hour)
	$(BIN)/python -m pytest -m faults tests/faults $(PYTEST)

test-cluster: $(READY)  ## jobs, lost and drained nodes, autoscaling, on real clusters of this machine (a quarter of an hour)
	$(BIN)/python -m pytest -m cluster tests/cluster $(PYTEST)

test-jobs: $(READY)  ## of these, `ray job submit` on a head with a token (minutes)
	$(BIN)/python -m pytest -m cluster tests/cluster/test_jobs.py $(PYTEST)

miniatures: $(READY)  ## all real datasets on made-up data in one study of two methods, then the plan of every other study (minutes)
	$(BIN)/balance-tune run search_spaces/across.yaml --miniature --root $(ROOT) -q 'methods=[joint,ogm_ge]' replicates=2 search.trials=2
	@for study in crema_d ave kinetics_sounds ucf101 vggsound mosei food101; do \
	  $(BIN)/balance-tune plan search_spaces/$$study.yaml --miniature --root $(ROOT) 'methods=[joint,ogm_ge]' || exit 1; \
	done

check: $(READY)  ## formatting, lint (of the Dockerfile too), types, that the installed packages fit together, and known vulnerabilities
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	if [ -x $(BIN)/hadolint ]; then $(BIN)/hadolint --failure-threshold info cluster/Dockerfile; else test "$$(uname)" != Linux; fi
	$(BIN)/python -m pip --disable-pip-version-check check
	$(BIN)/python -m tests.audit

audit: $(READY)  ## ask the public advisory database about every pinned package (part of check; needs the internet)
	$(BIN)/python -m tests.audit

format: $(READY)  ## mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY)  ## build the site into build/site (open build/site/index.html)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

ui: $(READY)  ## the MLflow UI on every trial (Ctrl-C ends it)
	$(BIN)/balance-tune ui --root $(ROOT)

bench: $(READY)  ## ratios against what a user would use instead; writes benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks

calibrate: $(READY)  ## simulate the error rates of the verdict on recordings; writes benchmarks/CALIBRATION.md (twenty minutes)
	$(BIN)/python -m benchmarks.calibration

bench-gpu: $(READY)  ## the same on a GPU: sharing it, samples a second, steps; writes benchmarks/RESULTS_GPU.md
	$(BIN)/python -m benchmarks.gpu

clean:  ## remove the virtual environment and caches; studies stay
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
