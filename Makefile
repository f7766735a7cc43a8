# The two commands of the README, and what they stand on.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed

.PHONY: setup up down reset test test-unit test-engine test-e2e lint lock schema

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --require-hashes -r requirements.lock
	$(VENV)/bin/pip install --quiet --no-deps --no-build-isolation -e .
	touch $(STAMP)

up: setup
	$(VENV)/bin/forge up

down: setup
	$(VENV)/bin/forge down

reset: setup
	$(VENV)/bin/forge reset

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright

test-unit: setup
	$(VENV)/bin/pytest -q -n 2 -m "not e2e and not engine and not node" tests service_images

test-engine: setup
	$(VENV)/bin/pytest -q -n 2 --dist loadfile -m engine tests

test-e2e: setup
	$(VENV)/bin/pytest -q -m "e2e or node" tests

# Everything. It starts the environment if it is not up, kills and resets it in the end, and leaves nothing.
test: lint test-unit
	$(VENV)/bin/forge up
	$(VENV)/bin/pytest -v -n 2 --dist loadfile -m engine tests
	$(VENV)/bin/pytest -v -m "e2e or node" tests

schema: setup
	$(VENV)/bin/python -m components.schema

lock:
	uv pip compile pyproject.toml --all-extras --python-version 3.11 --generate-hashes --no-header --no-emit-index-url -o requirements.lock
	uv pip compile service_images/kit/requirements.in --python-version 3.11 --python-platform x86_64-manylinux_2_31 --generate-hashes --no-annotate --no-header --no-emit-index-url -o service_images/kit/requirements.lock
	uv pip compile service_images/gateway/requirements.in --python-version 3.11 --python-platform x86_64-manylinux_2_31 --generate-hashes --no-annotate --no-header --no-emit-index-url -o service_images/gateway/requirements.lock
