# Each target does its own set-up in .venv; nothing but Python 3.11+ with venv is needed.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: test lint demo docs wheel research format sanitize portable page bench gpu clean

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(READY)

# A process for each core. What needs Chromium and its driver is skipped where they are not; CI has them.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal

CXX_FILES := $(wildcard wavenet/engines/native/*.cpp wavenet/engines/native/*.h wavenet/page/*.cpp wavenet/page/*.h tests/portable/*.cpp)
CLANG_FORMAT := $(or $(shell command -v clang-format 2> /dev/null),@echo skipped because it is not installed: clang-format)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(CLANG_FORMAT) --dry-run --Werror $(CXX_FILES)

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(CLANG_FORMAT) -i $(CXX_FILES)

# From audio files to audio files, and a page that shows them: five to six minutes on two cores.
demo: $(READY)
	$(BIN)/wavenet prepare samples/speech demo/speech --force
	rm -rf demo/quickstart demo/copies
	$(BIN)/wavenet train recipes/quickstart/quickstart.toml --set dataset=demo/speech --set run=demo/quickstart
	$(BIN)/wavenet copy demo/quickstart/model.safetensors demo/speech --temperature 0.8 --audio demo/copies
	$(BIN)/wavenet generate prompts -o demo/babble.wav --seconds 2 --force
	$(BIN)/wavenet report demo/quickstart -o demo/report.html --temperature 0.8 --force
	@echo "Open demo/report.html in a browser: held-out sentences, and their copies by a vocoder that began with nothing; its button lets the vocoder copy what you record, there in the page. demo/copies/ has them as files, demo/babble.wav is a shipped model left to itself."

# The native engine's tests under AddressSanitizer and UndefinedBehaviorSanitizer: a build of its own. `-S` keeps the
# editable installation from being found first.
sanitize: $(READY)
	rm -rf build/sanitized
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target build/sanitized . \
		--config-settings=cmake.define.WAVENET_SANITIZE=ON --config-settings=install.strip=false
	cp -r tests build/sanitized/
	cd build/sanitized && export PYTHONPATH=.:$$(../../$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))") \
		LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libubsan.so)" \
		ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 OMP_NUM_THREADS=1 && \
		../../$(BIN)/python -S -c "from wavenet.engines.native import native_module; assert 'sanitized' in native_module().__file__" && \
		../../$(BIN)/python -S -m pytest -q -p no:cacheprovider tests/test_native.py tests/test_int8.py tests/test_streaming.py \
		-k "not memory"

# The native engine's core, without Python, by other compilers and for 64-bit ARM, whose processor is emulated: all give
# the same audio. What is not installed is skipped.
portable:
	tests/portable/run.sh

# The engine of pages, as WebAssembly, and the page of two shipped models, samples/speak.html. Both are in the
# repository; Debian's package emscripten (3.1.6) gives the same engine to the byte. engine.sha256 says what it is made of.
ENGINE_SOURCES := wavenet/page/page.cpp wavenet/engines/native/int8.cpp
ENGINE_HEADERS := $(sort $(wildcard wavenet/page/*.h wavenet/engines/native/*.h))
page: $(READY)
	emcc -std=c++17 -O3 -msimd128 -ffp-contract=off -fno-math-errno -Wall -Wextra --no-entry -sSTANDALONE_WASM \
		-sALLOW_MEMORY_GROWTH $(ENGINE_SOURCES) -o wavenet/page/engine.wasm
	chmod -x wavenet/page/engine.wasm
	sha256sum $(ENGINE_SOURCES) $(ENGINE_HEADERS) wavenet/page/engine.wasm > wavenet/page/engine.sha256
	$(BIN)/wavenet export digits vocoder --format page --example $(SPOKEN) -o samples/speak.html --force
SPOKEN := samples/speech/en/demo-thanks.flac

# The API reference, from the docstrings, to build/docs: a page for each module.
MODULES := $(shell find wavenet -name '*.py' | grep -v __main__ | sed -e 's|/__init__||' -e 's|\.py$$||' -e 's|/|.|g' | sort)
docs: $(READY)
	$(BIN)/pdoc --output-directory build/docs --template-directory docs --docformat markdown $(MODULES)
	@for page in $(subst .,/,$(MODULES)); do test -s build/docs/$$page.html || { echo "$$page has no page"; exit 1; }; done

# An sdist and a manylinux wheel for this Python, to dist: the wheel is built from the sdist, both are checked, and the
# wheel generates where there is no compiler, no source, and of all packages only those that it requires.
wheel: $(READY)
	rm -rf dist build/wheel
	$(BIN)/python -m build --outdir build/wheel
	$(BIN)/twine check --strict build/wheel/*
	PATH="$(abspath $(BIN)):$$PATH" auditwheel repair --wheel-dir dist build/wheel/*.whl
	mv build/wheel/*.tar.gz dist
	WAVENET_DIST=$(abspath dist) $(BIN)/pytest tests/test_wheel.py

# The research programs, none of which may take longer than three minutes.
research: $(READY)
	timeout 180 $(BIN)/python recipes/research/layer.py
	timeout 180 $(BIN)/python recipes/research/schedule.py
	timeout 180 $(BIN)/python recipes/research/distribution.py
	timeout 180 $(BIN)/python recipes/research/likelihood.py

bench: $(READY)
	$(BIN)/wavenet bench

# On a machine with a GPU, where nothing need be installed. GPU is the folder to write, and what to train:
# make gpu GPU="runs/gpu recipes/kathleen/vocoder.toml=600"
gpu:
	recipes/gpu/run.sh $(GPU)

clean:
	rm -rf .venv demo build dist
