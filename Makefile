# rkyolo: make help lists what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# The default job is the demo. A model of your own needs pictures of your own.
DEMO := models/demo
DEMO_BUNDLE := models/shapes
ifeq ($(origin MODEL),undefined)
MODEL := $(DEMO)/shapes.pt
CALIBRATION ?= $(DEMO)/calibration
endif
OUT ?= models/$(basename $(notdir $(MODEL)))
SIZE ?= 640

# What the tests run against, from Debian: a broker, an RTSP server, a browser, and ffmpeg.
SERVERS := mosquitto openssl ffmpeg chromium chromium-driver python3-gi gir1.2-gst-rtsp-server-1.0 \
  gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly \
  gstreamer1.0-libav gcc libc6-dev
# And what a board is rehearsed with: an emulator, a compiler, and the key of Debian's archive.
EMULATOR := qemu-user-static gcc-aarch64-linux-gnu libc6-dev-arm64-cross debian-archive-keyring \
  openssh-server rsync

.DEFAULT_GOAL := help
.PHONY: help setup setup-tests convert test rehearse board-package deploy lint bench clean

help: ## Show this list.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 15
	@echo
	@echo 'make convert MODEL=best.pt CALIBRATION=pictures/ OUT=models/mine SIZE=640'
	@echo 'ARGS="--activation none" passes options on; TORCH_INDEX=URL takes torch from there.'

setup: $(VENV)/.ready ## Make .venv with everything the host needs.

convert: $(VENV)/.ready ## Convert a model; by default the demo.
	$(BIN)/rkyolo convert '$(MODEL)' -o '$(OUT)' --size '$(SIZE)' \
	  $(if $(CALIBRATION),--calibration '$(CALIBRATION)') $(if $(CHECK),--check '$(CHECK)') $(ARGS)

setup-tests: ## Install the servers the tests need; asks for sudo where that is needed.
	@missing=$$(LC_ALL=C dpkg-query -W -f '$${db:Status-Status} $${Package}\n' $(SERVERS) $(EMULATOR) 2>&1 | \
	  sed '/^installed /d; s/^dpkg-query: .* matching //; s/^[a-z-]* //'); \
	test -z "$$missing" && exit; \
	echo "installing $$(echo $$missing)"; \
	run=$$(test "$$(id -u)" = 0 || echo sudo); \
	$$run apt-get update -q && \
	$$run env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$missing

# where it may, it installs them; where it may not, the tests that miss one say so and fail. One
# process more than there are cores, since many tests wait for a server.
test: $(VENV)/.ready-test ## Run all tests, on the real toolkit and its simulator.
	@if test "$$(id -u)" = 0 || sudo -n true 2>/dev/null; then $(MAKE) --no-print-directory setup-tests; fi
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $$(expr $$(nproc) + 1) --dist loadfile --no-loadscope-reorder $(ARGS)

rehearse: $(VENV)/.ready-test $(DEMO_BUNDLE)/manifest.yaml ## Install and run on an emulated board.
	@if test "$$(id -u)" = 0 || sudo -n true 2>/dev/null; then $(MAKE) --no-print-directory setup-tests; fi
	$(BIN)/python -m pytest tests/rehearsal -n $$(expr $$(nproc) + 1) --dist loadfile \
	  --no-loadscope-reorder $(ARGS)

$(DEMO_BUNDLE)/manifest.yaml:
	$(MAKE) --no-print-directory convert MODEL=$(DEMO)/shapes.pt CALIBRATION=$(DEMO)/calibration OUT=$(@D)

board-package: $(VENV)/.ready ## Pack what a board needs: BUNDLE=models/mine BOARD_PYTHON=3.11
	$(BIN)/rkyolo board-package $(BUNDLE) $(if $(BOARD_PYTHON),--python '$(BOARD_PYTHON)') $(ARGS)

deploy: $(VENV)/.ready ## Bring it to a board: BOARD=user@host BUNDLE=models/mine
	$(BIN)/rkyolo deploy '$(BOARD)' $(BUNDLE) $(ARGS)

lint: $(VENV)/.ready-test ## Check style.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: $(VENV)/.ready-test ## Measure, and print ratios against references in the same run.
	PYTHONPATH=.:tests $(BIN)/python tests/bench/run.py $(ARGS)

clean: ## Remove what was made, the environment too.
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .hypothesis .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# host first, so that torch finds what it needs; the toolkit without its own list, see its file
$(VENV)/.ready: requirements/host.txt requirements/torch.txt requirements/toolkit.txt setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' || { \
	  echo 'error: Python 3.10 to 3.12 is needed: make PYTHON=python3.11 ...' >&2; exit 2; }
	@test "$$(uname -sm)" = 'Linux x86_64' || { \
	  echo 'error: the vendor'\''s toolkit runs on x86-64 Linux only' >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	  test "$$(id -u)" = 0 && apt-get update -q && apt-get install -qy python3-venv; } || { \
	  echo 'error: Python has no venv: sudo apt install python3-venv' >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q -r requirements/host.txt
	$(PIP) install -q $(if $(TORCH_INDEX),--index-url '$(TORCH_INDEX)') -r requirements/torch.txt
	$(PIP) install -q --no-deps -r requirements/toolkit.txt
	$(PIP) install -q --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.ready-test: $(VENV)/.ready requirements/test.txt
	$(PIP) install -q -r requirements/test.txt
	@touch $@
