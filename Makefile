.DEFAULT_GOAL := help
PYTHON ?= python3.11
BIN := .venv/bin

help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: .venv/.stamp ## The environment in .venv, from the hash-pinned lock

.venv/.stamp: requirements.lock pyproject.toml
	@echo "Installing the environment into .venv"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q uv
	@$(BIN)/uv pip sync -q --python $(BIN)/python --require-hashes requirements.lock
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps -e .
	@touch $@

lint: setup ## ruff and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy recsys

test: lint ## Every test, on real components
	$(BIN)/python -m pytest

.PHONY: help setup lint test
