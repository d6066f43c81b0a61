# make demo: the main job on three submissions. make test: everything. Both set up what they need.
export PYTHON # another interpreter than the one that tools/venv chooses

.PHONY: setup engine base packages demo test test-engines lint bench fuzz soak clean

setup: .venv/.done ## leaves .venv/bin/grader
.venv/.done: pyproject.toml requirements-dev.txt tools/venv
	@tools/venv
	@touch $@

engine: ## a Docker engine that answers
	@tools/engine

base: engine ## the base image of the reference and the sample submissions
	@tools/base-image

packages: ## a registry, busybox, gosu, setuidgid
	@tools/packages

demo: setup engine base
	@tools/packages docker-registry
	@tools/demo

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

test: engine base packages lint
	.venv/bin/pytest

test-engines: setup engine base packages ## the corpus on this engine and a newer one, with both builders; some in gVisor
	CORPUS_BUILDER=classic .venv/bin/pytest -m corpus tests/test_corpus.py
	tools/newer-engine sh -ec '.venv/bin/pytest tests/test_engines.py tests/test_hostile.py; \
		CORPUS_RUNTIME=runsc .venv/bin/pytest tests/test_engines.py tests/test_corpus.py -k "$(SANDBOXED)"; \
		for builder in buildkit classic; do \
			CORPUS_BUILDER=$$builder .venv/bin/pytest -m corpus tests/test_corpus.py; done'
	tools/podman-engine .venv/bin/pytest tests/on_podman.py
# What is tried in gVisor, where all would take six minutes more.
SANDBOXED = gets_out or graded_as_expected and (good-plain or good-gunicorn or good-registry-index or good-gosu or \
	bound-to-localhost or command-not-found or script- or root-by-omission or \
	healthcheck-wrong-path or dishonest-exit-0 or ungraceful-ignores)

bench: setup engine base packages
	.venv/bin/python benchmarks/bench.py
	.venv/bin/python benchmarks/course.py

SECONDS = 60
fuzz: setup ## garble what a registry says for SECONDS
	.venv/bin/python tools/fuzz $(SECONDS)

soak: setup engine base packages ## COUNT gradings under load, none of them wrong
	.venv/bin/python benchmarks/soak.py

lock: ## pin anew what pyproject.toml asks for
	.venv/bin/pip install --quiet uv
	.venv/bin/uv pip compile --quiet --upgrade --no-header --no-annotate --python-version 3.11 \
		--group dev --output-file requirements-dev.txt pyproject.toml

clean:
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
