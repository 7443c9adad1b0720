# make demo    set up and annotate the example recordings
# make test    set up and run the tests
# make check   lint, format, types, who imports whom
# make bench   speed, memory and accuracy of the parts
# make fuzz    ten minutes of strange transcripts, speaker files, tables and annotated corpora
# make mutate  small changes made to the code: how many do its tests notice? hours; SAMPLE=60 in one
# make example a corpus made, fine-tuned on, run and evaluated
# make install-check   the wheel installed without the lock, and tried (downloads gigabytes)
# make docs    the documentation as a site, in build/site
# make lock    resolve the dependencies anew
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test check bench fuzz mutate example docs install-check lock setup clean
.DEFAULT_GOAL := demo

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "Python 3.11 to 3.13 is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.11 ...")'
	@echo 'Setting up .venv, once: about 3 GB of packages to download, 7 GB on disk (4 of them PyTorch and CUDA).'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@echo 'Installing the packages of requirements.lock; this takes minutes and says nothing meanwhile.'
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $(READY)

demo: $(READY)
	@echo 'Annotating three short recordings: about half a minute.'
	$(BIN)/annotate run examples/recordings --out build/demo/labels.parquet
	$(BIN)/python examples/read_table.py build/demo/labels.parquet
	@echo
	@echo 'Next:'
	@echo '  $(BIN)/annotate report build/demo/labels.parquet --out build/demo/labels.html --media-base examples/recordings'
	@echo '      a page to look at in a browser: file://$(CURDIR)/build/demo/labels.html'
	@echo '  $(BIN)/annotate run YOUR/RECORDINGS --out labels.parquet   # your own'
	@echo '  $(BIN)/annotate doctor   # what would make it better'

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadscope --no-loadscope-reorder

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

bench: $(READY)
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.graph
	$(BIN)/python -m benchmarks.diarization_length
	$(BIN)/python -m benchmarks.diarization_people
	$(BIN)/python -m benchmarks.diarization
	$(BIN)/python -m benchmarks.faces

fuzz: $(READY)
	FUZZ_SECONDS=600 $(BIN)/python -m pytest tests/test_fuzz.py tests/test_fuzz_tables.py

mutate: $(READY)
	$(BIN)/python -m benchmarks.mutation --survivors $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(SEED),--seed $(SEED)) $(GROUP)

example: $(READY)
	examples/finetune/run.sh build/example

docs: $(READY)
	$(BIN)/python docs/reference/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build
	@echo 'The documentation is build/site/index.html'

install-check:
	bash tests/install_check.sh $(PYTHON)

lock: $(READY)
	$(BIN)/uv pip compile pyproject.toml --universal --all-extras --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 --output-file requirements.lock

clean:
	rm -rf build
