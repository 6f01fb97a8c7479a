/** Memory that another thread takes at the very moment when the heap grows. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compile } from "../cabi/core.ts";
import { WASM_PAGE } from "../npm/webassembly.ts";

/** Where the program's data end; the heap's own state lies there as well. */
const HEAP_BASE = 3 * WASM_PAGE - 16;
const STATE = WASM_PAGE;

type Exports = Record<string, CallableFunction>;

/**
 * The core of the locked build for Emscripten, which asks for memory when another thread has just taken `grab()` bytes.
 * `taken` is what all have taken together.
 */
async function core(
  module: WebAssembly.Module,
  grab: () => number,
): Promise<{ exports: Exports; taken: () => number }> {
  const memory = new WebAssembly.Memory({ initial: 4, maximum: 1024 });
  let end = HEAP_BASE;
  const take = (bytes: number): number => {
    const start = end;
    const missing = Math.ceil((start + bytes) / WASM_PAGE) - memory.buffer.byteLength / WASM_PAGE;
    if (missing > 0) memory.grow(missing);
    end += bytes;
    return start;
  };
  const known: Record<string, unknown> = {
    memory,
    __heap_base: HEAP_BASE,
    __rsb_state: STATE,
    sbrk(bytes: number) {
      if (bytes > 0) take(grab());
      return take(bytes);
    },
    __errno_location: () => 16,
  };
  const env: WebAssembly.ModuleImports = {};
  for (const { name, kind } of WebAssembly.Module.imports(module))
    env[name] = (known[name] ?? (kind === "global" ? 0 : () => 0)) as WebAssembly.ImportValue;
  const { exports } = await WebAssembly.instantiate(module, { env });
  return { exports: exports as Exports, taken: () => end - HEAP_BASE };
}

const { module: bytes } = await compile(["src/index.ts"], ["RSB_EMSCRIPTEN", "RSB_LOCKED"]);
const module = new WebAssembly.Module(Uint8Array.from(bytes));

for (const grabbed of [16, 2048, 5000, 300_000, 5_000_000]) {
  test(`another thread takes ${grabbed} bytes at one moment or another`, async () => {
    for (const size of [100, 5000, 200_000]) {
      for (let moment = 0; moment < 10; ++moment) {
        let asked = 0;
        const { exports } = await core(module, () => (asked++ === moment ? grabbed : 0));
        const { malloc, free, malloc_usable_size } = exports;
        const blocks = Array.from({ length: 40 }, () => malloc!(size) as number);
        assert.not.ok(
          blocks.includes(0),
          `block ${blocks.indexOf(0)} of ${size} bytes fails, other at moment ${moment}`,
        );
        for (const block of blocks) {
          assert.ok((malloc_usable_size!(block) as number) >= size);
          free!(block);
        }
        if (size > 5000) assert.ok(asked > 1);
      }
    }
  });
}

test("no memory is taken beyond what is asked for", async () => {
  const { exports, taken } = await core(module, () => 0);
  const size = 1000;
  const count = 2000;
  for (let i = 0; i < count; ++i) assert.is.not(exports.malloc!(size), 0);
  assert.ok(taken() < 1.1 * count * size, `${taken()} bytes`);
});

test("each request is lost once at most where another thread takes a few bytes each time", async () => {
  const { exports, taken } = await core(module, () => 8);
  const size = 1_000_000;
  const count = 20;
  for (let i = 0; i < count; ++i) assert.is.not(exports.malloc!(size), 0);
  assert.ok(taken() < (2 * count + 3) * size, `${taken()} bytes`);
});

test("sbrk does not give up where memory has grown just before, by another thread", async () => {
  const { module: bytes } = await compile(["src/sbrk.ts"], ["RSB_EMSCRIPTEN", "RSB_LOCKED"]);
  const maximum = 64;
  const memory = new WebAssembly.Memory({ initial: 4, maximum });
  const pages = () => memory.buffer.byteLength / WASM_PAGE;
  const env = {
    memory,
    __heap_base: HEAP_BASE,
    __rsb_break: STATE,
    __errno_location: () => 16,
    // As Emscripten's: false where memory is as large already.
    emscripten_resize_heap(wanted: number) {
      if (pages() < maximum) memory.grow(1);
      const missing = Math.ceil(wanted / WASM_PAGE) - pages();
      if (missing <= 0 || missing > maximum - pages()) return 0;
      memory.grow(missing);
      return 1;
    },
  };
  const instance = await WebAssembly.instantiate(new WebAssembly.Module(Uint8Array.from(bytes)), { env });
  const { sbrk } = instance.exports as { sbrk: (bytes: number) => number };
  let end = HEAP_BASE;
  for (; end + WASM_PAGE <= maximum * WASM_PAGE; end += WASM_PAGE) assert.is(sbrk(WASM_PAGE), end);
  assert.is(sbrk(WASM_PAGE), -1);
});

test("the break moves up only: sbrk refuses less than nothing, brk what lies before", async () => {
  const { module: bytes } = await compile(["src/sbrk.ts"], ["RSB_EMSCRIPTEN"]);
  const memory = new WebAssembly.Memory({ initial: 4 });
  const env = {
    memory,
    __heap_base: HEAP_BASE,
    __rsb_break: STATE,
    __errno_location: () => 16,
    emscripten_resize_heap: () => 0,
  };
  const instance = await WebAssembly.instantiate(new WebAssembly.Module(Uint8Array.from(bytes)), { env });
  const { sbrk, brk } = instance.exports as Record<string, (bytes: number) => number>;
  for (const less of [-1, -7, -8, -1000]) assert.is(sbrk!(less), -1);
  assert.is(sbrk!(0), HEAP_BASE);
  // The break is rounded up, and stays where it is told to be once more.
  for (let times = 0; times < 2; ++times) assert.is(brk!(HEAP_BASE + 1001), 0);
  assert.is(sbrk!(0), HEAP_BASE + 1008);
  assert.is(brk!(HEAP_BASE + 1000), -1);
});

test.run();
