# Every target sets itself up from nothing: Python >= 3.10 and a Rust toolchain are enough.
PYTHON ?= python3
VENV ?= .venv
OUT ?= out
GPU_PYTHON ?= $(PYTHON)
# a folder with the CSV files of MP-20; without it they are downloaded
MP20 ?=
RUN = $(VENV)/bin/python
WEIGHTS = python/adit/weights/joint-tiny
SOURCES = $(shell find python rust -name '*.py' -o -name '*.rs' -o -name '*.toml' -o -name '*.js' -o -name '*.css' -o -name '*.safetensors' -o -name 'config.json') pyproject.toml Cargo.toml

.PHONY: generate test test-slow lint bench bench-gpu bench-baselines train wheel clean

generate: $(VENV)/.installed  ## 100 molecules and 100 crystals from the weights in the wheel
	$(VENV)/bin/adit-gen --system molecule --n 100 --out $(OUT)/molecules.sdf --report $(OUT)/molecules.html --overwrite
	$(VENV)/bin/adit-gen --system crystal --n 100 --out $(OUT)/crystals.extxyz --out $(OUT)/crystals/ --report $(OUT)/crystals.html --overwrite

test: $(VENV)/.installed-test  ## Rust and Python; the slow ones: make test-slow
	cargo test -p adit-core --locked --quiet
	OMP_NUM_THREADS=1 $(RUN) -m pytest
	OMP_NUM_THREADS=1 $(RUN) -m pytest kernels/tests

test-slow: $(VENV)/.installed-test
	$(RUN) -m pytest -m slow
	$(RUN) -m pytest kernels/tests -m slow

lint: $(VENV)/.installed-test
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

bench: $(VENV)/.installed-test
	$(RUN) -m pytest benches --benchmark-only

bench-gpu:  ## the kernels on this GPU; needs a Python with torch, triton and numpy; ARGS=--sweep tunes
	$(GPU_PYTHON) benches/gpu/bench.py $(ARGS)

bench-baselines: $(VENV)/.installed-test  ## adit beside EDM, DiffCSP, published ADiT and others, into docs/benchmarks.md
	$(RUN) benches/bench_baselines.py --docs docs/benchmarks.md

train: $(VENV)/.installed-test  ## the recipe joint-tiny: hours on two cores; REPLACES the weights in python/adit/weights
	$(VENV)/bin/adit-data prepare qm9
	$(VENV)/bin/adit-data prepare mp20 $(if $(MP20),--source $(MP20))
	$(VENV)/bin/adit-train vae --recipe joint-tiny --resume
	$(VENV)/bin/adit-train decoder --recipe joint-tiny --resume
	$(VENV)/bin/adit-train dit --recipe joint-tiny --resume
	$(VENV)/bin/adit-train dit --recipe joint-tiny-guide --vae runs/joint-tiny --resume
	$(VENV)/bin/adit-train export runs/joint-tiny --guide runs/joint-tiny-guide --out $(WEIGHTS) --name joint-tiny --sampling molecule=sde-dpm++:36:1:training:1:10 --sampling crystal=ancestral:50:1:new
	$(VENV)/bin/adit-train property --data qm9 $(addprefix --column ,mu alpha homo lumo gap cv) --weights $(WEIGHTS) --out runs/qm9-properties --resume
	$(VENV)/bin/adit-train property --data mp20 $(addprefix --column ,formation_energy_per_atom band_gap) --weights $(WEIGHTS) --out runs/mp20-properties --resume
	cp runs/qm9-properties/predictor.* $(WEIGHTS)/qm9-properties/
	cp runs/mp20-properties/predictor.* $(WEIGHTS)/mp20-properties/

wheel: $(VENV)/.tools
	$(VENV)/bin/maturin build --release --out dist

$(VENV)/.tools:
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip 'maturin>=1.7,<2'
	touch $@

$(VENV)/.installed: $(VENV)/.tools $(SOURCES)
	rm -rf dist && $(VENV)/bin/maturin build --release --out dist
	$(RUN) -m pip install --quiet dist/*.whl
	$(RUN) -m pip install --quiet --force-reinstall --no-deps dist/*.whl
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed $(wildcard kernels/adit_kernels/*.py)
	$(RUN) -m pip install --quiet "$$(ls dist/*.whl)[test,lint]"
	$(RUN) -m pip install --quiet --no-deps ./kernels
	touch $@

clean:
	rm -rf $(VENV) target dist $(OUT)
