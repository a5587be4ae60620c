# make run    set up, run the whole line on MNIST, say where the report is (anew: make run OPTIONS=--fresh)
# make test   set up, run all checks
# make setup  set up alone: .venv and ngspice

.PHONY: run test setup
READY := .venv/.ready

run: $(READY)
	.venv/bin/hwloop run --out runs/lenet-mnist $(OPTIONS)

test: $(READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/pytest

setup: $(READY)

$(READY): pyproject.toml constraints.txt tools/setup.sh
	PYTHON="$(PYTHON)" tools/setup.sh
	touch $@
