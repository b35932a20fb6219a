# The environment is .venv; every target makes it when it is missing or out of date.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SAMPLE := data-samples/vault
KEY    := data-samples/sample.vkey

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test reproduce lint fix samples notebooks s3 bench bench-large bench-peers lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.ready ## from the sample vault to a checked evidence packet
	@rm -rf build/role-grants
	@mkdir -p build
	$(BIN)/auditlib verify $(SAMPLE) --key $(KEY)
	$(BIN)/auditlib packet build role-grants \
	    -p since=2026-03-01 -p until=2026-06-01 -p entitlement=admin \
	    --vault $(SAMPLE) --key $(KEY) -o build/role-grants
	$(BIN)/auditlib packet verify build/role-grants --key $(KEY)
	@echo
	@echo "The report: open build/role-grants/data/report.html in a browser."

# Three at once on two cores: a quarter of the time a test waits for a browser, a server or another process.
test: $(VENV)/.ready ## the tests, then every notebook and packet made again and compared
	$(BIN)/python -m pytest -n 3 tests/
	@$(MAKE) --no-print-directory reproduce

reproduce: export AUDITLIB_VAULT := $(CURDIR)/$(SAMPLE)
reproduce: export AUDITLIB_KEY := $(CURDIR)/$(KEY)
reproduce: $(VENV)/.ready ## every notebook against its stored outputs, every request's packet made twice
	$(BIN)/python -m pytest -n 2 --dist loadfile --nbval notebooks/
	@rm -rf build/answers && mkdir -p build
	$(BIN)/auditlib requests build --all --requests data-samples/requests.toml \
	    --period 2026-03-01/2026-06-01 -o build/answers
	$(BIN)/auditlib requests --requests data-samples/requests.toml --dir build/answers --reproduce

lint: $(VENV)/.ready ## style, types, and which module may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(VENV)/.ready ## repair what ruff can repair
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

samples: $(VENV)/.ready ## make the sample vault again, and what docs/format.md shows of it
	$(BIN)/python data-samples/generate.py
	$(BIN)/python data-samples/refresh_docs.py

notebooks: export AUDITLIB_VAULT := $(CURDIR)/$(SAMPLE)
notebooks: export AUDITLIB_KEY := $(CURDIR)/$(KEY)
notebooks: $(VENV)/.ready ## run every notebook on the sample vault and keep its outputs
	$(BIN)/jupyter nbconvert --log-level=ERROR --to notebook --execute --inplace \
	    --ExecutePreprocessor.record_timing=False notebooks/*.ipynb

s3: ## a real S3 server with Object Lock on this machine, to try things on
	@mkdir -p build
	@set -e; started=$$(tests/services/s3-start $(CURDIR)/build/s3); eval "$$started"; \
	    printf 'export %s=%s\n' AWS_ENDPOINT_URL "$$AUDITLIB_TEST_S3_ENDPOINT" \
	    AWS_ACCESS_KEY_ID "$$AUDITLIB_TEST_S3_OWNER_KEY" AWS_SECRET_ACCESS_KEY "$$AUDITLIB_TEST_S3_OWNER_SECRET" \
	    AWS_DEFAULT_REGION us-east-1 >build/s3.env
	@echo "It runs; now: . build/s3.env      Stop it: tests/services/s3-stop \$$PWD/build/s3"

bench: $(VENV)/.ready ## measure, some minutes; writes benchmarks/results.json and docs/performance.md
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.profiles
	$(BIN)/python -m benchmarks.tables

bench-large: $(VENV)/.ready ## the same with 100 million events, up to an hour, 8 GB of disk for a while
	$(BIN)/python -m benchmarks.large
	$(BIN)/python -m benchmarks.tables

bench-peers: $(VENV)/.ready ## other tools to measure beside, from PyPI into build/peers
	$(BIN)/python -m benchmarks.peers

lock: $(VENV)/.ready ## pin pyproject.toml's dependencies again (newest: make lock LOCK=--upgrade)
	$(BIN)/uv pip compile pyproject.toml --no-config --quiet --all-extras --universal --python-version 3.11 \
	    --fork-strategy fewest --generate-hashes --no-header --annotation-style line $(LOCK) -o requirements.lock

clean: ## remove the environment, builds and caches
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.ready: $(VENV)/.locked pyproject.toml
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# Made anew whenever the lock changes: an environment half of one Python and half of another fails in odd ways.
$(VENV)/.locked: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	    "auditlib needs Python 3.11 or newer; name one: make PYTHON=python3.12")'
	@echo "Making $(VENV) from requirements.lock (a few minutes the first time)"
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing python3-venv, which Debian keeps apart"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null; \
	else echo "$(PYTHON) cannot make environments; on Debian: sudo apt-get install python3-venv" >&2; exit 1; fi
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	@touch $@
