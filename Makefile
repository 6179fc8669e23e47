# make demo    render a small scene with two workers on this computer; the picture is in build/demo
# make test    everything: lint, unit, SSH, faults, three Blenders by wheel, a windowed Blender
# make test-exact    every scene of the exactness matrix
# make bench   the figures of docs/performance.md; make plots its pictures
# make build   installable zips for all platforms: build/dist
#
# All of it lives in build/. As root on Debian or Ubuntu `make test` installs the tools that it needs.

BPY := 4.5.15
BPY_OLDEST := 4.2.23
BPY_NEWEST := 5.2.3

VENV := build/venv
PYTHON := $(VENV)/bin/python
BLENDER ?= $(CURDIR)/tests/bin/blender
CHROOT := $(or $(DC_CHROOT),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/distributed-cycles/trixie)
PYTEST := $(PYTHON) -m pytest

# $(call find-python,3.11): by its own name, through pyenv, or as plain python3.
find-python = $(or $(shell for python in "python$(1)" "env PYENV_VERSION=$(1) python$(1)" python3; do \
	$$python -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "$(1)")' 2>/dev/null \
	&& echo $$python && break; done),$(error Python $(1) is needed and was not found))

.PHONY: demo test test-exact unit ssh faults far near blender gui screenshots bench plots lint format build wheels lock venv tools clean
.DELETE_ON_ERROR:

demo: $(VENV)/ready build/demo/demo.blend
	rm -rf build/demo/job
	printf '[[node]]\nname = "first"\nthreads = 1\n\n[[node]]\nname = "second"\nthreads = 1\n' >build/demo/nodes.toml
	$(BLENDER) --background build/demo/demo.blend --command distributed_cycles render --nodes build/demo/nodes.toml \
		--no-local --output build/demo/picture --job-dir build/demo/job

build/demo/demo.blend: tools/demo_scene.py $(VENV)/ready
	mkdir -p build/demo
	$(BLENDER) --background --factory-startup --python-exit-code 1 --python tools/demo_scene.py -- $(CURDIR)/$@

test: lint unit
	$(MAKE) --jobs 2 --output-sync=target far near
	$(MAKE) blender gui

unit: $(VENV)/ready
	$(PYTEST) tests/unit

ssh faults: $(VENV)/ready tools
	$(PYTEST) tests/$@

# Both together, in two halves that wait more than they compute.
FAR := $(addprefix tests/faults/test_,routes.py upload.py slow_line.py slurm.py benchmark.py)

far: $(VENV)/ready tools
	$(PYTEST) tests/ssh $(FAR)

near: $(VENV)/ready tools
	$(PYTEST) tests/faults $(addprefix --ignore=,$(FAR))

blender: $(VENV)/ready build/venv-oldest/ready build/venv-newest/ready tools
	$(PYTEST) tests/blender tests/exact
	BPY_PYTHON=$(CURDIR)/build/venv-oldest/bin/python $(PYTEST) tests/blender tests/exact
	BPY_PYTHON=$(CURDIR)/build/venv-newest/bin/python $(PYTEST) tests/blender tests/exact

# Every scene of the matrix, not only the third that `make test` renders.
test-exact: $(VENV)/ready build/venv-oldest/ready build/venv-newest/ready
	DC_EXACT=all $(PYTEST) -s tests/exact
	DC_EXACT=all BPY_PYTHON=$(CURDIR)/build/venv-oldest/bin/python $(PYTEST) -s tests/exact
	DC_EXACT=all BPY_PYTHON=$(CURDIR)/build/venv-newest/bin/python $(PYTEST) -s tests/exact

gui: $(VENV)/ready tools
	$(PYTEST) tests/gui

# The pictures in the documentation are what the tests of the window saw.
screenshots: gui
	cp build/gui/rendering-2.png docs/images/rendering.png
	cp build/gui/panel.png build/gui/preferences.png docs/images/

bench: $(VENV)/ready
	$(PYTHON) -m tests.bench.overhead
	$(PYTHON) -m tests.bench.memory
	$(PYTHON) -m tests.bench.upload
	$(PYTHON) -m tests.bench.channels
	$(PYTHON) -m tests.bench.schedule
	$(PYTHON) -m tests.bench.simulator
	$(PYTHON) -m tests.bench.ticks
	$(PYTHON) -m tests.bench.warm_up
	$(PYTHON) -m tests.bench.first_tile

# The plots of docs/performance.md. matplotlib is for them alone.
plots: demo
	$(PYTHON) -m pip install --quiet --disable-pip-version-check matplotlib==3.11.2
	$(PYTHON) -m tests.bench.plots build/demo/job

lint: $(VENV)/ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(PYTEST) -q tests/unit/test_architecture.py

format: $(VENV)/ready
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

build: $(VENV)/ready
	$(PYTHON) tools/build.py

wheels: $(VENV)/ready
	$(PYTHON) wheels/fetch.py

lock: $(VENV)/ready
	$(PYTHON) wheels/fetch.py --lock

venv: $(VENV)/ready

$(VENV)/ready: tools/requirements.txt tools/requirements-test.txt Makefile
	$(call find-python,3.11) -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r tools/requirements-test.txt bpy==$(BPY)
	touch $@

build/venv-oldest/ready: tools/requirements.txt Makefile
	$(call find-python,3.11) -m venv build/venv-oldest
	build/venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check \
		-r tools/requirements.txt bpy==$(BPY_OLDEST)
	touch $@

build/venv-newest/ready: tools/requirements.txt Makefile
	$(call find-python,3.13) -m venv build/venv-newest
	build/venv-newest/bin/python -m pip install --quiet --disable-pip-version-check \
		-r tools/requirements.txt bpy==$(BPY_NEWEST)
	touch $@

# Without root the tests that need these tools are skipped, and say so.
tools:
	@if [ "$$(id -u)" = 0 ] && [ -e /etc/debian_version ]; then DC_CHROOT="$(CHROOT)" tools/install; fi

clean:
	rm -rf build wheels/*.whl
