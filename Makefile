# `make demo` runs the main job, `make test` passes the tests; both set up what they need on a machine with Python.

PYTHON ?= python3
VENV := .venv
EDGE := .venv-edge
OLDEST := .venv-oldest
WEB := build/web
ONNXRUNTIME_WEB := 1.30.0
PIP := -m pip --disable-pip-version-check

.PHONY: demo test lint test-full test-edge edge-report test-oldest test-slow test-campaign test-browser test-emulated
.PHONY: test-ray test-cuda scaling results web clean

demo: $(VENV)/ready
	$(VENV)/bin/stale-edge demo

# Checks of the code, and the environment of a device, beside the tests; then the tests on that device.
test: $(VENV)/ready
	$(MAKE) -j 2 lint-and-edge test-full
	$(MAKE) test-edge

.PHONY: lint-and-edge
lint-and-edge: lint
	$(MAKE) $(EDGE)/ready

lint: $(VENV)/ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# All but the runtime's own tests, which `test-edge` runs where they matter; of these, those of tables and
# HDF5 need packages that are not there.
test-full: $(VENV)/ready
	$(VENV)/bin/pytest -q -n 2 --dist loadfile --durations 10 tests --ignore tests/runtime
	$(VENV)/bin/pytest -q tests/runtime/test_manifests.py tests/runtime/test_corpus.py

# What a device has: the built wheel with its base dependencies, in an environment that never saw torch.
test-edge: $(EDGE)/ready
	$(EDGE)/bin/python -c "import importlib.util as u; assert not any(map(u.find_spec, ('torch', 'onnx', 'safetensors')))"
	$(EDGE)/bin/python -m pytest -q -n 2 --dist loadfile -o pythonpath= tests/runtime

# The same on the oldest versions that pyproject.toml declares.
test-oldest: $(OLDEST)/ready
	$(OLDEST)/bin/python -m pytest -q -n 2 --dist loadfile -o pythonpath= tests/runtime

# What the edge install takes on disk, and from a fresh process to its first detection.
edge-report: $(VENV)/ready
	$(VENV)/bin/python tests/edge_report.py

# What takes long, and what holds times against the clock: on a machine that does nothing else.
test-slow: $(VENV)/ready
	$(VENV)/bin/pytest -q -m 'slow or realtime'

# Hostile input of every kind, faults at every step of every writer, kills and soak: minutes; prints tables.
test-campaign: $(VENV)/ready
	$(VENV)/bin/pytest -q -s -m campaign tests/campaign

# Pages in a real browser; skipped where Chromium, its driver or npm is absent.
test-browser: $(VENV)/ready
	-$(MAKE) web
	$(VENV)/bin/pytest -q -m browser tests/stale_edge/test_*browser.py tests/stale_edge/test_demo.py

# Work on Ray clusters of this machine: what their nodes take is memory and two processors.
test-ray: $(VENV)/ray
	$(VENV)/bin/pytest -q -m ray

# Videos per second with one process, with two, and on a Ray cluster of this machine.
scaling: $(VENV)/ray
	$(VENV)/bin/python -m tests.scaling measure

# Tables of README and docs, and the page of all studies, from what lies in models/results.
results: $(VENV)/ready
	$(VENV)/bin/python -m tests.published write

# The runtime's tests on processors that this machine is not: hours; says so where qemu is missing.
test-emulated: $(EDGE)/ready
	$(EDGE)/bin/python tests/emulated.py

test-cuda: $(VENV)/ready
	$(VENV)/bin/pytest -q -m cuda

# What runs a model in a browser, for `stale-edge web`.
web: $(WEB)/node_modules/onnxruntime-web/package.json

$(WEB)/node_modules/onnxruntime-web/package.json: Makefile
	npm install --prefix $(WEB) --ignore-scripts --no-audit --no-fund onnxruntime-web@$(ONNXRUNTIME_WEB)
	touch $@

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP) install -q --upgrade pip
	$(VENV)/bin/python $(PIP) install -q --no-compile -c constraints.txt -e '.[all]' --group dev
	touch $@

$(VENV)/ray: $(VENV)/ready
	$(VENV)/bin/python $(PIP) install -q -c constraints.txt -e '.[all,ray]'
	touch $@

$(EDGE)/ready: pyproject.toml constraints.txt $(shell find stale_edge export runtime -type f -not -name '*.pyc')
	$(PYTHON) -m venv $(EDGE)
	$(EDGE)/bin/python $(PIP) install -q --upgrade pip
	rm -rf build/wheel
	$(EDGE)/bin/python $(PIP) wheel -q --no-deps -w build/wheel .
	$(EDGE)/bin/python $(PIP) install -q -c constraints.txt --force-reinstall --no-deps build/wheel/*.whl
	$(EDGE)/bin/python $(PIP) install -q -c constraints.txt 'stale-edge[video]' --group edge-test
	touch $@

$(OLDEST)/ready: $(EDGE)/ready
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python $(PIP) install -q --upgrade pip
	$(OLDEST)/bin/python $(PIP) install -q --force-reinstall --no-deps build/wheel/*.whl
	$(OLDEST)/bin/python $(PIP) install -q build/wheel/*.whl 'numpy==1.26.*' 'onnxruntime==1.20.*' --group edge-test
	touch $@

clean:
	rm -rf $(VENV) $(EDGE) $(OLDEST) build demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
