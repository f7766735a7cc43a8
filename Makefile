# The two commands of the README, and what they stand on.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed

.PHONY: setup wheel up down reset test test-unit test-integration test-contract test-services test-start test-checks test-engine test-e2e test-drills test-all gate-e2e gate-engine lint lock schema protos

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	# The lock is whole; with --no-deps, what it overrides is not missed.
	$(VENV)/bin/pip install --quiet --no-deps --require-hashes -r requirements.lock
	$(VENV)/bin/pip install --quiet --no-deps --no-build-isolation -e .
	touch $(STAMP)

# The installable package, in dist/. A checkout with changes is refused; WHEEL_FLAGS="--config-settings dirty=allow".
wheel: setup
	$(VENV)/bin/pip wheel --quiet --no-deps --no-build-isolation -w dist $(WHEEL_FLAGS) .

up: setup
	$(VENV)/bin/forge up

down: setup
	$(VENV)/bin/forge down

reset: setup
	$(VENV)/bin/forge reset --yes

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright
	$(VENV)/bin/zizmor --offline --quiet .github/workflows

test-unit: setup
	$(VENV)/bin/pytest -q -n 2 --dist loadgroup -m "not (integration or contract or e2e or engine or drill or start)" tests service_images

test-integration: setup
	$(VENV)/bin/pytest -q -n 2 --dist loadgroup -m "integration and not (contract or drill)" service_images

test-contract: setup
	$(VENV)/bin/pytest -q -n 2 -m contract service_images

test-start: setup
	$(VENV)/bin/pytest -v -n 1 --durations 5 -m start tests/node

test-engine: setup
	$(VENV)/bin/pytest -v -n 3 --dist loadfile --durations 10 -m engine tests/engine

test-e2e: setup
	$(VENV)/bin/pytest -v -n 1 --durations 10 -m "e2e and not drill" tests/e2e

# Long or rare tests; DRILLS="upgrade node" runs these only. The last one, node, removes the environment.
test-drills: setup
	$(VENV)/bin/python -m tests.drills $(DRILLS)

# Unit, integration and contract tests in one run, so that they are collected once.
test-services: setup
	$(VENV)/bin/pytest -q -n 3 --dist loadgroup --durations 15 -m "not (e2e or engine or drill or start)" tests service_images

test-checks: lint test-services

# What a change may break. Two targets at a time where they do not disturb each other; the environment stays up.
# Cold builds of tools come first: they take longer than a test may.
test: setup
	$(VENV)/bin/forge tools --tests
	$(MAKE) -j2 gate-e2e gate-engine

# The end-to-end tests need the environment, the engine tests its node; what needs neither runs beside them. Nothing runs
# beside the start: on two cores, servers that start at the same time as thousands of tests miss the limits of their probes.
gate-e2e: test-start
	$(MAKE) test-e2e

gate-engine: test-start
	$(MAKE) test-checks
	$(MAKE) test-engine

# Everything; in the end the environment is killed and reset, and nothing of it is left.
test-all: setup
	$(MAKE) test
	$(MAKE) test-drills

schema: setup
	$(VENV)/bin/python -m components.config.schema
	$(VENV)/bin/python -m components.event_schemas
	cd service_images/router/src && PYTHONPATH=../../kit/src ../../../$(VENV)/bin/python -m router.openapi > ../openapi.json
	for service in $$($(VENV)/bin/python -m components.services); do PYTHONPATH=service_images/kit/src:service_images/$$service/src $(VENV)/bin/python -m kit.describe $$service > service_images/$$service/openapi.json; done

lock:
	uv pip compile pyproject.toml --all-extras --override requirements-overrides.txt --python-version 3.11 --generate-hashes --no-header --no-emit-index-url -o requirements.lock
	uv pip compile service_images/kit/requirements.in --python-version 3.11 --python-platform x86_64-manylinux_2_31 --generate-hashes --no-annotate --no-header --no-emit-index-url -o service_images/kit/requirements.lock
	uv pip compile service_images/guardrails/requirements.in --constraint service_images/kit/requirements.lock --python-version 3.11 --python-platform x86_64-manylinux_2_31 --generate-hashes --no-annotate --no-header --no-emit-index-url -o service_images/guardrails/requirements.lock
	uv pip compile service_images/retriever/requirements.in --constraint service_images/kit/requirements.lock --python-version 3.11 --python-platform x86_64-manylinux_2_31 --generate-hashes --no-annotate --no-header --no-emit-index-url -o service_images/retriever/requirements.lock
	uv pip compile service_images/embeddings/requirements.in --override requirements-overrides.txt --python-version 3.11 --python-platform x86_64-manylinux_2_31 --generate-hashes --no-annotate --no-header --no-emit-index-url -o service_images/embeddings/requirements.lock
	uv pip compile service_images/gateway/requirements.in --python-version 3.11 --python-platform x86_64-manylinux_2_31 --generate-hashes --no-annotate --no-header --no-emit-index-url -o service_images/gateway/requirements.lock
	uv pip compile service_images/vllm/requirements.in --python-version 3.11 --python-platform x86_64-manylinux_2_35 --generate-hashes --no-annotate --no-header --no-emit-index-url -o service_images/vllm/requirements.lock
	uv pip compile service_images/java/requirements.in --python-version 3.11 --python-platform x86_64-manylinux_2_31 --generate-hashes --no-annotate --no-header --no-emit-index-url -o service_images/java/requirements.lock
	uv pip compile service_images/kafka/requirements.in --python-version 3.11 --python-platform x86_64-manylinux_2_31 --generate-hashes --no-annotate --no-header --no-emit-index-url -o service_images/kafka/requirements.lock
	uv pip compile service_images/nats/requirements.in --python-version 3.11 --python-platform x86_64-manylinux_2_31 --generate-hashes --no-annotate --no-header --no-emit-index-url -o service_images/nats/requirements.lock
	uv pip compile service_images/openbao/requirements.in --python-version 3.11 --python-platform x86_64-manylinux_2_31 --generate-hashes --no-annotate --no-header --no-emit-index-url -o service_images/openbao/requirements.lock
	uv pip compile service_images/postgres/requirements.in --override service_images/postgres/overrides.txt --python-version 3.11 --python-platform x86_64-manylinux_2_31 --generate-hashes --no-annotate --no-header --no-emit-index-url -o service_images/postgres/requirements.lock
	uv pip compile service_images/tests/clients/requirements.in --python-version 3.11 --python-platform x86_64-manylinux_2_31 --generate-hashes --no-annotate --no-header --no-emit-index-url -o service_images/tests/clients/requirements.lock
	uv pip compile service_images/tests/clients/llama_index/requirements.in --python-version 3.11 --python-platform x86_64-manylinux_2_31 --generate-hashes --no-annotate --no-header --no-emit-index-url -o service_images/tests/clients/llama_index/requirements.lock
	uv pip compile service_images/tests/clients/uv.in --python-version 3.11 --python-platform x86_64-manylinux_2_31 --generate-hashes --no-annotate --no-header --no-emit-index-url -o service_images/tests/clients/uv.lock
	$(VENV)/bin/python -m local.images.maven

protos: setup
	$(VENV)/bin/python service_images/kit/generate.py
