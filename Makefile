# Everything here works from a bare clone with Python 3.11 or newer and make: what is needed is
# installed into .venv, in the versions of constraints.txt.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV ?= .venv
BIN ?= $(VENV)/bin
# Processes that run tests beside one another; each wants up to 4 GB.
JOBS ?= 2
# Where the demonstration writes.
DEMO ?= demo
# What it scores: a folder with a manifest.csv.
DEMO_CLIPS ?= examples/demo_clips

# The first interpreter on PATH that is new enough and can make environments. Set PYTHON to choose.
FIND_PYTHON = IFS=:; for folder in $$PATH; do \
  for name in python3 python3.13 python3.12 python3.11; do \
    "$$folder/$$name" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
      2>/dev/null && { echo "$$folder/$$name"; exit; }; \
  done; done
PYTHON ?= $(shell $(FIND_PYTHON))

# A folder of published weights beside the checkout is used when no other mirror is named.
ifeq ($(origin AASIST_DEPLOY_MIRROR),undefined)
ifneq ($(wildcard ../shared/models/clovaai/AASIST.pth),)
export AASIST_DEPLOY_MIRROR := ../shared/models/clovaai
endif
endif
# The demonstration leaves nothing outside this folder.
export AASIST_DEPLOY_CACHE ?= $(DEMO)/cache

# What libaasist is built with: fetched into build/cpp/deps, or with CPP_DEPS=system the system's own.
CPP_DEPS ?= fetched
CPP_PRESET ?= release
version_of = $(shell sed -n 's/^$(1)==//p' constraints.txt)

.PHONY: cpp cpp-deps help demo demo-steps test test-long check lint format types floors deps typos bench gpu-check wheel clean

help: ## Say what can be made.
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/ready ## Export published AASIST, prove parity, score and evaluate the demo clips.
	@$(MAKE) --no-print-directory demo-steps

# A file's tests stay in one process, so that what they share is made once; tests/conftest.py puts the
# slow files first. PyTorch's own threads would only get in the way of the other process.
test: $(VENV)/ready ## Run the tests, but for those that take minutes.
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m 'not (training or long)' $(PYTEST_ARGS)

test-long: $(VENV)/ready ## Run the tests that take minutes: training, and every clip.
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist worksteal -m 'training or long' $(PYTEST_ARGS)

check: lint types floors deps typos test ## Run all checks and the tests.

lint: $(VENV)/ready ## Check style and formatting.
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(VENV)/ready ## Format the code.
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

types: $(VENV)/ready ## Check the types.
	$(BIN)/mypy

floors: $(VENV)/ready ## Check that modules import only from lower floors.
	$(BIN)/lint-imports

deps: $(VENV)/ready ## Check imports against the declared dependencies.
	$(BIN)/deptry .

typos: $(VENV)/ready ## Check the spelling.
	$(BIN)/typos

BENCH ?= build/bench
bench: $(VENV)/ready ## Measure speed on this machine; see benchmarks/README.md.
	test -f $(BENCH)/AASIST-L.plain.onnx || $(BIN)/python -m benchmarks.speed_cpu prepare --work $(BENCH) $(if $(WEIGHTS),--checkpoint-dir $(WEIGHTS))
	$(BIN)/python -m benchmarks.speed_cpu speed --work $(BENCH) -o benchmarks/results/$$(date +%F)-cpu.json

gpu-check: $(VENV)/ready ## Run the GPU tests and benchmarks; see benchmarks/gpu/README.md.
	bash benchmarks/gpu/check.sh $(BIN)/python

cpp: ## Build the C++ library and build/cpp/aasist-score; see docs/cpp.md.
	@for tool in cmake c++; do command -v $$tool >/dev/null \
	  || { echo "$$tool is needed and was not found (Debian: apt-get install cmake g++)."; exit 3; } >&2; done
	@$(MAKE) --no-print-directory cpp-deps
	cd cpp && cmake --preset $(CPP_PRESET) && env -u MAKEFLAGS cmake --build --preset $(CPP_PRESET) --parallel $(JOBS)
	cd cpp && ctest --preset $(CPP_PRESET)
	@ln -sf $(CPP_PRESET)/aasist-score build/cpp/aasist-score
	@echo "Built build/cpp/aasist-score."

cpp-deps: # What the C++ library is built with, into build/cpp/deps.
	@test $(CPP_DEPS) = system || PYTHON='$(PYTHON)' ONNXRUNTIME_VERSION=$(call version_of,onnxruntime) \
	  SOUNDFILE_VERSION=$(call version_of,soundfile) sh cpp/setup/fetch_deps.sh build/cpp/deps/native

wheel: $(VENV)/ready ## Build the wheel into dist/.
	$(BIN)/python -m hatchling build -t wheel

clean: ## Remove the environment and everything that was built.
	rm -rf $(VENV) build dist demo .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

demo-steps: # The demonstration itself, with the tools in $(BIN).
	@name=aasist; \
	if ! weights=$$($(BIN)/aasist-deploy pull aasist 2>/dev/null); then \
	  name=aasist-l-mini; weights=$$($(BIN)/aasist-deploy pull $$name) || exit $$?; \
	  echo "The published weights cannot be had ('aasist-deploy pull aasist' says why), so this shows aasist-l-mini of this package, which errs far more often: docs/published-models.md." >&2; \
	fi; \
	set -e; \
	step() { printf '\n$$ aasist-deploy'; printf ' %s' "$$@"; printf '\n'; $(BIN)/aasist-deploy "$$@"; }; \
	step export "$$weights" -o $(DEMO)/$$name.onnx; \
	step parity $(DEMO)/$$name.onnx --reference "$$weights" --audio $(DEMO_CLIPS); \
	step score $(DEMO)/$$name.onnx $(DEMO_CLIPS) -o $(DEMO)/scores.csv; \
	step eval $(DEMO)/$$name.onnx --dataset manifest --root $(DEMO_CLIPS) --out $(DEMO); \
	printf '%s\n' '' \
	  'These 28 clips are few and out of domain; what their figures mean: examples/demo_clips/README.md' \
	  'Scores of each file: $(DEMO)/scores.csv' 'Report, for a browser: $(DEMO)/report.html'

# One environment for everything; made again when the versions change.
$(VENV)/ready: pyproject.toml constraints.txt
	@test -n '$(PYTHON)' && '$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed and was not found: install it, or name it with make PYTHON=/path/to/python3."; exit 3; } >&2
	@'$(PYTHON)' -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "$(PYTHON) cannot make environments: install its venv module (Debian: apt-get install python3-venv)."; exit 3; } >&2
	@echo "Setting up $(VENV) with $(PYTHON); this is done once and takes some minutes."
	@'$(PYTHON)' -m venv $(VENV)
	@{ $(BIN)/python -m pip install -q --disable-pip-version-check --retries 2 -c constraints.txt pip \
	  && $(BIN)/python -m pip install -q --retries 2 -c constraints.txt --build-constraint constraints.txt \
	    -e '.[export,onnx,openvino,parquet,ray,remote,serve,train,vad]' --group dev; } >$(VENV)/install.log 2>&1 \
	  || { echo "The packages could not be installed; is there a network? pip's own words are in $(VENV)/install.log."; exit 3; } >&2
	@touch $@
