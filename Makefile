# make caption [IMAGE=...]   set up what captioning needs, and caption a photograph (or those in examples/)
# make serve                 set up and start the service on http://127.0.0.1:8000
# make test                  set up everything and run the tests: a few minutes
# make test-all              also the slow tests: every export, kills of training runs, every benchmark
# make test-load             load and faults on a real service, and on containers behind haproxy: takes minutes
# make test-collections      captions on Ray and from a stand-in for S3: takes a minute or more
# make test-deploy           container, dashboards, Terraform, workflows with the real tools: takes minutes
# make test-container        only the container, built and run
# make check                 lint, types, import rules
# make bench                 speed and memory, compared with others: takes minutes, on a quiet machine
# make bench-avx2            some of that as if the processor had nothing newer than AVX2
# make docs                  the documents as a site, in .site
# make release               whether this commit can be released
PYTHON ?= $(or $(shell command -v python3.11),python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
IMAGE ?= examples

.PHONY: caption serve test test-all test-load test-deploy test-container test-collections check bench bench-avx2 docs release format clean

caption: $(VENV)/core
	@$(BIN)/captionist caption "$(IMAGE)"

serve: $(VENV)/serve
	@$(BIN)/captionist serve

test: $(VENV)/all
	$(BIN)/python -m pytest

test-all: test
	$(BIN)/python -m pytest -m slow

test-load: $(VENV)/all
	$(BIN)/python -m pytest -m load tests/load

test-deploy: $(VENV)/all
	$(PIP) --editable ".[deploy]"
	$(BIN)/python -m pytest -m "deploy or not deploy" tests/deploy

test-container: $(VENV)/all
	$(PIP) --editable ".[deploy]"
	$(BIN)/python -m pytest -m deploy tests/deploy/test_container.py

test-collections: $(VENV)/all
	$(PIP) --editable ".[ray]"
	$(BIN)/python -m pytest -m collections tests/collection

check: $(VENV)/all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_imports.py

# A processor's instructions for 8-bit integers decide its speed, so each kind has its own results.
PROCESSOR = $(firstword $(foreach kind,amx_int8 avx512_vnni avx_vnni,$(shell grep -om1 $(kind) /proc/cpuinfo)) avx2)
RESULTS = benchmarks/results/$(PROCESSOR)
bench: $(VENV)/all weights/gpt2-4l-384
	$(BIN)/python -m benchmarks.latency --compile --base weights/gpt2-4l-384 --json $(RESULTS)/latency.json
	$(BIN)/python -m benchmarks.throughput --json $(RESULTS)/throughput.json
	$(BIN)/python -m benchmarks.startup --json $(RESULTS)/startup.json
	$(BIN)/python -m benchmarks.roofline --json $(RESULTS)/roofline.json
	$(BIN)/python -m benchmarks.service_throughput --json $(RESULTS)/service_throughput.json
	$(BIN)/python -m benchmarks.service_overload --json $(RESULTS)/service_overload.json
	$(BIN)/python -m benchmarks.tables

# The same on such a processor as if it had nothing newer than AVX2, which Linux can hide on Intel's.
bench-avx2: $(VENV)/all weights/gpt2-4l-384
	cc -O2 -shared -fPIC benchmarks/avx2.c -o $(VENV)/avx2.so
	LD_PRELOAD=$(CURDIR)/$(VENV)/avx2.so $(BIN)/python -m benchmarks.latency --base weights/gpt2-4l-384 --json benchmarks/results/avx2/latency.json
	LD_PRELOAD=$(CURDIR)/$(VENV)/avx2.so $(BIN)/python -m benchmarks.throughput --json benchmarks/results/avx2/throughput.json
	$(BIN)/python -m benchmarks.tables

weights/gpt2-4l-384: $(VENV)/all
	$(BIN)/python -m recipes.starting_weights weights

docs: $(VENV)/all
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

release: $(VENV)/all
	$(BIN)/python -m deploy.release

format: $(VENV)/all
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV)

# Each of these files marks an environment that has been set up.
$(VENV)/core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

$(VENV)/serve: $(VENV)/core
	$(PIP) --editable ".[serve]"
	touch $@

$(VENV)/all: $(VENV)/core
	$(PIP) torch==2.13.0
	$(PIP) --editable ".[serve,otel,train,parquet,docs,dev]"
	touch $@
