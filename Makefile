# make run    set up, run the whole line on MNIST, say where the report is (anew: make run OPTIONS=--fresh)
# make test   set up, run all checks
# make bench  set up, hold the circuit solver and the reading against their peers in one run
#             (CrossSim too: make bench CROSS_SIM=/path/to/its/checkout)
# make docs   set up, write the documentation site to build/site
# make setup  set up alone: .venv and ngspice

.PHONY: run test bench docs setup
READY := .venv/.ready

run: $(READY)
	.venv/bin/hwloop run --out runs/lenet-mnist $(OPTIONS)

test: $(READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/pytest --numprocesses auto --maxprocesses 4 --dist loadscope

bench: $(READY)
	.venv/bin/python benchmarks/crossbar_linear.py --network
	.venv/bin/python benchmarks/crossbar_nonlinear.py
	.venv/bin/python benchmarks/read_speed.py $(if $(CROSS_SIM),--cross-sim $(CROSS_SIM))
	.venv/bin/python benchmarks/crossbar_growth.py runs/bench/crossbar-scaling.png

docs: $(READY)
	.venv/bin/python tools/reference.py docs/reference
	.venv/bin/zensical build --clean --strict

setup: $(READY)

$(READY): pyproject.toml constraints.txt tools/setup.sh
	PYTHON="$(PYTHON)" tools/setup.sh
	touch $@
