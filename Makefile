# The words to run everything; `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
HEARTH_MODELS ?= models
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install serve check test test-all openapi bench train-starter eval-starter clean

help: ## list the words
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[dev,fast]"
	touch $@

install: .venv/installed ## create .venv with hearth and its tools in it

serve: install ## start the server on 127.0.0.1:7860 with the models in $HEARTH_MODELS (default: models/)
	$(BIN)/hearth serve --models $(HEARTH_MODELS) $(ARGS)

check: install ## format, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: install ## the tests; real engines run on tiny models
	$(BIN)/python -m pytest -n auto --maxprocesses 4 $(ARGS)

test-all: install ## the tests with the slow ones
	$(BIN)/python -m pytest -n auto --maxprocesses 4 -m "not gpu and not network" $(ARGS)

openapi: install ## write openapi/ anew from the code
	$(BIN)/hearth openapi --write openapi

bench: install ## compare with bare llama.cpp; prints ratios with their spread
	$(BIN)/python -m bench $(ARGS)

train-starter: install ## train the starter models anew from their seeds (hours); what is interrupted goes on
	$(BIN)/python -m training.chat train
	$(BIN)/python -m training.image train

eval-starter: install ## score the starter models on what they have not seen; writes their cards
	$(BIN)/python -m training.chat eval
	$(BIN)/python -m training.image eval

clean: ## remove what was built
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
