PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# npm packages of the conformance tests, where there is npm
MASTERS := $(if $(shell command -v npm 2>/dev/null),tests/contract/masters/node_modules/.package-lock.json)

.PHONY: up test check train bench docs new-project clean

up: $(VENV)/.runtime  ## Run the main job: plant, broker, edge agents, coordinators
	$(BIN)/heron up

test: $(VENV)/.dev $(MASTERS)  ## Pass the tests
	$(BIN)/pytest -q

check: $(VENV)/.dev  ## Format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# options of the runs whose policies ship, as in their manifests (`heron policy show`)
SETUP ?= ieee34_ieee13
RUN ?= runs/train/$(SETUP)
train_ieee34_ieee13 := --seed 1 --checkpoint-freq 20 --evaluate-freq 10
train_single_microgrid := $(train_ieee34_ieee13)
TRAIN ?= $(or $(train_$(SETUP)),$(train_ieee34_ieee13))

train: $(VENV)/.dev  ## Train, evaluate on held-out days and export the best policies into runs/
	$(BIN)/heron train --setup $(SETUP) $(TRAIN) --checkpoint-dir $(RUN)
	$(BIN)/heron export $(RUN) --best
	$(BIN)/heron evaluate --setup $(SETUP) $(RUN)/policies --out $(RUN)/evaluation.json
	$(BIN)/heron export $(RUN) --best --evaluate $(RUN)/evaluation.json

bench: $(VENV)/.dev  ## Measure, beside named peers
	$(BIN)/python -m benchmarks

docs: $(VENV)/.dev  ## Build the documentation site into site/
	$(BIN)/pip install --quiet -c constraints.txt -e ".[docs]"
	$(BIN)/mkdocs build --strict --quiet

new-project: $(VENV)/.dev
	$(BIN)/heron new-project $(NAME) --domain $(DOMAIN) --path $(or $(PARENT),..)

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: $(VENV)/bin/pip pyproject.toml constraints.txt
	$(BIN)/pip install --quiet -c constraints.txt -e ".[runtime]"
	@# compile the power-flow kernels once, so that the first run starts as fast as the next
	$(BIN)/heron feeder ieee13 --solve >/dev/null
	@touch $@

$(VENV)/.dev: $(VENV)/bin/pip pyproject.toml constraints.txt
	$(BIN)/pip install --quiet -c constraints.txt "torch==2.13.0"
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	@touch $@ $(VENV)/.runtime

tests/contract/masters/node_modules/.package-lock.json: tests/contract/masters/package-lock.json
	cd tests/contract/masters && npm ci --silent --omit=optional --no-audit --no-fund
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
