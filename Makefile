# `make` builds lib/ and include/, `make demo` runs a demonstration, `make test` runs all checks. docs/contributing.md lists the
# other targets.
NODE ?= node
TS := $(NODE) --import tsx

# The C compiler for examples, tests and benchmarks: by default the one from npm, or any clang with a wasm target.
ifeq ($(origin CC),default)
CC := npm
endif
export CC

.PHONY: all lib demo test lint format bench traces browser dist package clean node

all: lib

node:
	@command -v $(NODE) >/dev/null && command -v npm >/dev/null || { echo "$(NODE) or npm not found: install Node.js 20 or later" >&2; exit 1; }
	@$(NODE) tools/check-node.cjs

node_modules: package.json package-lock.json | node
	npm ci
	@touch node_modules

# One run of build.ts makes all files; the stand-alone module is written last.
lib: lib/rsbmalloc.wasm

lib/rsbmalloc.wasm: package-lock.json $(wildcard src/*.ts cabi/*.ts cabi/*.json npm/binary-format.ts npm/requirements.ts cabi/include/*.h cabi/packages/*) | node_modules
	$(TS) cabi/build.ts

demo: lib
	@$(TS) tools/demo.ts

# `make test TEST=link` runs only the test files with "link" in their names.
test: lib
	@$(TS) tools/setup.ts test
	@$(MAKE) --no-print-directory lint
	@$(TS) tools/test.ts $(TEST)

lint: node_modules
	npx tsc --project tsconfig.json
	npx asc src/index.ts --noEmit --config cabi/asconfig.json
	npx prettier --check .
	npx oxlint --deny-warnings

format: node_modules
	npx prettier --write .

bench: lib
	@$(TS) tools/setup.ts bench
	@$(TS) bench/main.ts $(BENCH)

# Records bench/traces again, from the programs in bench/programs.
traces: node_modules
	@$(TS) tools/setup.ts bench
	@$(TS) bench/record.ts $(TRACES)

# Serves a page with three mallocs side by side at http://127.0.0.1:8080/.
browser: lib
	@$(TS) tools/setup.ts browser
	@$(TS) browser/main.ts

# The rest of the npm package, besides lib/ and include/.
dist: lib
	rm -rf dist
	npx tsc --project tsconfig.build.json

# The package as a tarball. npm runs no scripts here (.npmrc), so `npm pack` alone would pack whatever is in dist/.
package: dist
	npm pack

clean:
	rm -rf build lib include dist
