# `make demo` and `make test` do everything on a fresh machine with Python 3.11.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CHECKOV := infra/checkov/.venv
FIND_LINKS := $(if $(PIP_FIND_LINKS),--find-links "$(PIP_FIND_LINKS)")
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test test-fast test-infra infra-scan check format install services browser clean

demo: install ## the whole pipeline at its small default, then where to look
	$(BIN)/reelforge demo

install: $(STAMP) ## everything into .venv, at the versions of constraints.txt

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python $(FIND_LINKS) -c constraints.txt -e '.[curate,train,eval,cluster,dev]'
	touch $(STAMP)

test: install browser ## all tests but those of `make test-infra`
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not infra"

test-fast: install ## without whole pipelines, servers and browsers
	$(BIN)/python -m pytest -n 2 -m "not slow and not infra"

test-infra: install $(CHECKOV)/.installed ## Terraform, its scan, manifests and services; what a missing program leaves out is skipped
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/infra

infra-scan: $(CHECKOV)/.installed ## security scan of the Terraform
	$(CHECKOV)/bin/checkov --config-file infra/checkov/config.yaml --quiet

$(CHECKOV)/.installed: infra/checkov/requirements.txt $(STAMP) ## checkov's pins do not fit ours: an environment of its own
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(CHECKOV)
	$(BIN)/uv pip install --quiet --python $(CHECKOV)/bin/python $(FIND_LINKS) -r $<
	touch $@

services: install ## MLflow and Prefect on PostgreSQL, and an S3 endpoint, on this machine: `reelforge services down` ends them
	$(BIN)/reelforge services up

browser: ## the headless browser that checks the report page, where we may install it
	@command -v chromium >/dev/null || infra/install-chromium || true

check: install ## linters, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove what runs have made (not the environment, not the tracking database)
	rm -rf artifacts checkpoints curves data/footage generated reports store
