# Drawing pictures without a display needs libraries of the system: on Debian and Ubuntu,
#     apt install libegl1 libegl-mesa0 libgl1-mesa-dri        or, where EGL does not work, libosmesa6
# Each target makes its own .venv on first use; a second call finds it there.
PYTHON ?= $(shell for v in python3.11 python3.12 python3.13 python3; do if command -v $$v >/dev/null && $$v -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$v; break; fi; done)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: venv train test lint learn

venv: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and was not found: install it, or say make PYTHON=/path/to/python."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) has no venv module: apt install python3-venv."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

# A run that was stopped, or is there already, goes on; rm -r runs/pendulum begins anew.
train: venv
	$(BIN)/python scripts/train.py tdmpc2 $$(test -f runs/pendulum/config.yaml && echo --resume runs/pendulum || echo $(PENDULUM))
	$(BIN)/python scripts/evaluate.py runs/pendulum --episodes 1 --video runs/pendulum/evaluation.mp4

PENDULUM := --task Pendulum-v1 --size 1m --steps 2200 --eval-every 0 --final-episodes 5 --logdir runs/pendulum --behaviour.planner.samples 256 --behaviour.planner.iterations 4 --watch --films 2

test: venv
	@$(BIN)/python -c 'import sys; from envs import opengl; opengl.choose_backend(); sys.exit(None if opengl.rendering_works() else opengl.MISSING)'
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

learn: venv
	$(BIN)/python benchmarks/learn.py
