# make demo: the main job on three submissions. make test: everything. Both set up what they need.
export PYTHON # another interpreter than the one that tools/venv chooses

.PHONY: setup engine base packages programs demo test test-faults test-others test-engines lint bench fuzz soak slips clean

setup: .venv/.done ## leaves .venv/bin/grader
.venv/.done: pyproject.toml requirements-dev.txt tools/venv
	@tools/venv
	@touch $@

engine: ## a Docker engine that answers
	@tools/engine

base: engine ## the base image of the reference and the sample submissions
	@tools/base-image

packages: ## a registry, busybox, gosu, setuidgid, a browser
	@tools/packages
programs: # the same, without the browser
	@tools/packages docker-registry busybox-static gosu daemontools

demo: setup engine base
	@tools/packages docker-registry
	@tools/demo

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

test: engine base packages lint
	@$(MAKE) --no-print-directory -j2 test-faults test-others

test-faults: ## on an engine of their own, and mostly waiting: beside the others
	.venv/bin/pytest tests/test_faults.py
test-others:
	.venv/bin/pytest --ignore=tests/test_faults.py

test-engines: setup engine base programs ## the corpus on this engine and a newer one, with both builders, and in gVisor
	CORPUS_BUILDER=classic .venv/bin/pytest -m corpus
	tools/newer-engine sh -ec '.venv/bin/pytest tests/test_engines.py tests/test_hostile.py; \
		CORPUS_RUNTIME=runsc .venv/bin/pytest tests/test_engines.py -k gets_out; \
		CORPUS_RUNTIME=runsc .venv/bin/pytest -m corpus; \
		.venv/bin/pytest -m corpus tests/test_corpus.py; \
		CORPUS_BUILDER=classic .venv/bin/pytest -m corpus'
	CORPUS_JOBS=2 tools/podman-engine sh -ec '.venv/bin/pytest tests/on_podman.py; .venv/bin/pytest -m corpus'
	SUITE=trixie tools/podman-engine .venv/bin/pytest tests/on_podman.py

bench: setup engine base programs
	.venv/bin/python benchmarks/bench.py
	.venv/bin/python benchmarks/course.py

SECONDS = 60
fuzz: setup ## garble what a registry says for SECONDS
	.venv/bin/python tools/fuzz $(SECONDS)

soak: setup engine base programs ## COUNT gradings under load, none of them wrong
	.venv/bin/python benchmarks/soak.py

slips: setup engine base ## COUNT slips of the pen in the reference: plain Docker has to agree on each
	.venv/bin/python benchmarks/slips.py

lock: ## pin anew what pyproject.toml asks for
	.venv/bin/pip install --quiet uv
	.venv/bin/uv pip compile --quiet --upgrade --no-header --no-annotate --python-version 3.11 \
		--group dev --output-file requirements-dev.txt pyproject.toml

clean:
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
