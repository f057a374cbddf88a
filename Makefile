# Every target works in the virtual environment .venv, which it makes where it is missing.
PY := .venv/bin/python

.PHONY: demo test lint types bench wheel
.venv: pyproject.toml
	python3 -m venv .venv
	.venv/bin/pip install -e '.[all,test]'
	touch .venv

demo: .venv
	.venv/bin/agentmesh run examples/desk

test: .venv
	$(PY) -m pytest

lint: .venv
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	.venv/bin/lint-imports

types: .venv
	$(PY) -m mypy

bench: .venv
	for each in benchmarks/*.py; do $(PY) $$each || exit 1; done

wheel: .venv
	.venv/bin/pip wheel --no-deps -w dist .
