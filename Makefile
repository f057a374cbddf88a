# Every target works in the virtual environment .venv, which it makes where it is missing.
BIN := .venv/bin
PY := $(BIN)/python
VERIFIER := dist/agentmesh-verify.pyz
BUILD := build/verifier

.PHONY: demo test lint types bench wheel verifier $(VERIFIER)
.venv: pyproject.toml
	python3 -m venv .venv
	.venv/bin/pip install -e '.[all,test]'
	touch .venv

demo: .venv
	$(BIN)/agentmesh run examples/desk

test: .venv
	$(PY) -m pytest

lint: .venv
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(BIN)/lint-imports

types: .venv
	$(PY) -m mypy

bench: .venv
	$(PY) benchmarks/dialogue.py
	$(PY) benchmarks/ledger.py --quick
	$(PY) benchmarks/engine.py --quick
	$(PY) benchmarks/tamper.py --mutations 2000 --databases 300

wheel: .venv
	$(BIN)/pip wheel --no-deps -w dist .

# With another BIN its environment is there already.
verifier: $(if $(filter .venv/bin,$(BIN)),.venv) $(VERIFIER)

# The verifier as one file, for Pythons of this minor version on this platform. No plain zip application will do: PyNaCl
# has a compiled part, which cannot be imported out of one; shiv unpacks it at the first start (into ~/.shiv or SHIV_ROOT).
$(VERIFIER):
	rm -rf $(BUILD)
	mkdir -p $(BUILD) $(dir $(VERIFIER))
	$(PY) -m pip install --quiet --disable-pip-version-check --target $(BUILD) .
	rm -rf $(BUILD)/bin $(BUILD)/agentmesh $(BUILD)/agentmesh_models $(BUILD)/agentmesh_servers
	$(BIN)/shiv --site-packages $(BUILD) --entry-point agentmesh_ledger.__main__:main --output-file $(VERIFIER) \
	  --python "/usr/bin/env python$$($(PY) -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
