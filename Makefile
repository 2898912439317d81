# Two commands: `make figures` regenerates every figure, `make test` runs every check. `make` alone explains all of them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SECONDARY:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory
ifeq ($(filter-out figures published full,$(MAKECMDGOALS)),)
MAKEFLAGS += -j2  # two notebooks at a time, unless -j says otherwise
endif

DEVICE ?= auto
NOTEBOOK ?=
LAB ?=
all := $(patsubst notebooks/%.ipynb,%,$(sort $(wildcard notebooks/*.ipynb)))
ifeq ($(all),)
$(error make should run in the folder of the project. Found no notebooks/*.ipynb in this one. Change to it, or give it as make -C FOLDER)
endif
ifneq ($(findstring :,$(CURDIR)),)
$(error The path of the project should hold no colon, at which Python divides lists of folders. Found $(CURDIR). Rename that folder)
endif
names := $(all)
ifneq ($(strip $(NOTEBOOK)),)  # a number, 03, or a name, 03_credit_default
names := $(filter $(NOTEBOOK) $(NOTEBOOK)_%,$(all))
ifneq ($(words $(NOTEBOOK)) $(words $(names)),1 1)
$(error NOTEBOOK should be the number or the name of one notebook. Found NOTEBOOK=$(NOTEBOOK). There are: $(all))
endif
endif
checked := mtlcore notebooks/companion tests $(wildcard benchmarks book)

# Programs import the mtlcore and the companion of this checkout, whichever environment runs them.
export PYTHONPATH := $(CURDIR):$(CURDIR)/notebooks$(if $(PYTHONPATH),:$(PYTHONPATH))
python = "$$(< build/python)"

# The networks here are small: a second thread makes a run slower, and two runs at once (make -j2, pytest -n 2) far slower.
figures published full test: export OMP_NUM_THREADS ?= 1
figures published full test: export MKL_NUM_THREADS ?= 1
# What a step frees is kept for the next one (glibc's malloc): returned to the system and asked for again, its pages are
# cleared each time, which takes up to half of a training's time where many runs are stacked.
figures published full test: export MALLOC_MMAP_MAX_ ?= 0
figures published full test: export MALLOC_TRIM_THRESHOLD_ ?= 4294967296
figures published full test: export MALLOC_TOP_PAD_ ?= 67108864

# The seconds are measured on 2 cores after the installation, which takes some minutes the first time.
.PHONY: help
help:  ##     0 s  this text
	@echo "make TARGET [DEVICE=cuda] [NOTEBOOK=03]"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 10

.PHONY: figures
figures: $(names:%=build/notebooks/%.ipynb)  ##    80 s  execute the fast profile, write figures/fast/ and build/notebooks/
	@if [ -e build/ran ]; then echo "Figures: figures/fast/. Executed notebooks: build/notebooks/."; rm build/ran; \
	else echo "Nothing to do: figures/fast/ is up to date with $(words $(names)) notebooks."; fi

.PHONY: test
test: environment  ##   400 s  every check: style, types, tests, doctests, the notebooks' guard and their outputs
	@$(python) -m ruff check .
	@$(python) -m mypy $(checked)
	@$(python) -m pytest -n 2 --dist loadgroup -q

.PHONY: record
record: environment  ##   290 s  run the defaults on one CPU thread and put their outputs into notebooks/
	@$(python) -m companion.runner.notebooks record $(names:%=notebooks/%.ipynb)

.PHONY: published
published: $(names:%=build/published/%.ipynb)  ##   100 s  draw figures/full/ again from the published runs, figures/full/NN_runs.*, without training
	@if [ -e build/ran ]; then echo "Figures: figures/full/. Executed notebooks: build/published/."; rm build/ran; \
	else echo "Nothing to do: figures/full/ is up to date with $(words $(names)) notebooks."; fi

# The longest first, so that two at a time end together: the scenes take nearly two hours on one core.
longest = 07 02 09 04 08 03 06
.PHONY: full
full: $(patsubst %,build/full/%.ipynb,$(foreach n,$(longest),$(filter $n_%,$(names))) $(names))  ##  7600 s  execute the full profile (estimated: CPU time of its parts, halved), write figures/full/; then make claims and make record
	@if [ -e build/ran ]; then echo "Figures: figures/full/. Executed notebooks: build/full/. Now: make claims and make record"; rm build/ran; \
	else echo "Nothing to do: figures/full/ is up to date with $(words $(names)) notebooks."; fi

.PHONY: claims
claims: environment  ##    25 s  compute the verdicts from figures/full/, write them into README.md and notebook 00
	@$(python) -m companion.claims.ledger

.PHONY: compare
compare: environment  ##     3 s  hold your own figures/full/ against the committed numbers, one by one
	@$(python) -m companion.claims.compare

.PHONY: mutants
mutants: environment  ##   205 s  plant known defects in copies of the code; each has to turn its named check red
	@$(python) tests/mutants/mutants.py

.PHONY: student
student: environment  ##     3 s  write build/student/: the coursework without its solutions
	@$(python) -m companion.coursework.student

.PHONY: lab
lab: environment  ##     3 s  open the notebooks in JupyterLab (as root: LAB=--allow-root)
	@[ "$$(id -u)$(LAB)" != 0 ] || echo "JupyterLab lets root in, say in a container, when asked to: make lab LAB=--allow-root"
	@exec $(python) -m jupyter lab notebooks/00_overview.ipynb --ServerApp.root_dir=. $(LAB)

.PHONY: book
book: environment  ##    30 s  build the book, build/book/html/index.html, from the committed notebooks; nothing is executed
	@rm -rf build/book; $(python) book/stage.py
	@$(python) -m sphinx -q -W --keep-going -d build/book/doctrees build/book/source build/book/html
	@$(python) book/check.py

.PHONY: crate
crate: environment  ##     4 s  write build/crate/, an RO-Crate of the evidence for an archive, and what it asks for a DOI
	@$(python) book/crate.py
	@$(python) book/doi.py Zenodo

.PHONY: browse
browse: book  ##   100 s  the book and JupyterLab in a real browser: needs Chromium, and playwright (pip install playwright)
	@$(python) -m pytest -q -rs tests/book

.PHONY: bench
bench: environment  ##   190 s  run every script of benchmarks/
	@for script in $(wildcard benchmarks/[a-z]*.py); do echo "== $$script"; $(python) "$$script" $(if $(COMMIT),--commit); done

.PHONY: clean
clean:  ##     0 s  delete what the other targets made, except .venv and figures/full/
	@rm -rf build failed figures/fast .pytest_cache .mypy_cache .ruff_cache .hypothesis mtlcore.egg-info
	@find $(checked) -name __pycache__ -type d -prune -exec rm -rf {} +

# The first Python that is new enough decides which environment to use (notebooks/companion/runner/environment.py); one
# of a .venv whose installation was not finished does not.
pythons = "$${VIRTUAL_ENV:-$${CONDA_PREFIX:-none}}/bin/python" $(patsubst %installed,%bin/python,$(wildcard .venv/installed)) \
	python3 python python3.13 python3.12 python3.11 python3.14
new_enough = -c 'import sys; sys.exit(sys.version_info < (3, 11))'

.PHONY: environment
environment:
	@mkdir -p build; rm -f build/ran; \
	for first in $(pythons); do "$$first" $(new_enough) 2>/dev/null && break || first=; done; \
	[ -n "$$first" ] || { echo "No Python 3.11 or newer is on the PATH. Install one, or: conda env create -f environment.yml" >&2; exit 1; }; \
	exec "$$first" -P notebooks/companion/runner/environment.py

# A notebook runs again when the content of its inputs file changed (notebooks/companion/runner/inputs.py), and only then.
.PHONY: inputs-fast inputs-published inputs-full
inputs-fast inputs-published inputs-full: inputs-%: environment
	@$(python) -P notebooks/companion/runner/inputs.py $* device=$(DEVICE) $(names)
$(names:%=build/inputs/fast/%): inputs-fast
	@:
$(names:%=build/inputs/published/%): inputs-published
	@:
$(names:%=build/inputs/full/%): inputs-full
	@:

# `exec`, that a SIGTERM which make hands on reaches the run and not a shell before it.
run = $(python) -m companion.runner.notebooks run notebooks/$*.ipynb --output $@ -p device=$(DEVICE) -p profile
$(names:%=build/notebooks/%.ipynb): build/notebooks/%.ipynb: build/inputs/fast/%
	@touch build/ran; exec $(run)=fast
$(names:%=build/published/%.ipynb): build/published/%.ipynb: build/inputs/published/%
	@touch build/ran; exec $(run)=published
$(names:%=build/full/%.ipynb): build/full/%.ipynb: build/inputs/full/%
	@touch build/ran; exec $(run)=full

# What sums up others runs after them: the cost notebook after the studies, the overview after all.
others = $(filter-out $(2:%=build/$1/%.ipynb),$(names:%=build/$1/%.ipynb))
build/full/10_cost.ipynb: $(call others,full,10_cost 00_overview)
build/full/00_overview.ipynb: $(call others,full,00_overview)
build/published/10_cost.ipynb: $(call others,published,10_cost 00_overview)
build/published/00_overview.ipynb: $(call others,published,00_overview)
