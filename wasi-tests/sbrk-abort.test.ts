/**
 * Emscripten's default: `sbrk` ends the program instead of failing. A call that can do without more memory must not ask
 * for it once linear memory is used up.
 */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compile } from "../cabi/core.ts";
import { WASM_PAGE } from "../npm/webassembly.ts";

const STATE = 4096;
const END = 8 * WASM_PAGE;
/** What memory is filled with: blocks of one page, its guard in the hardened build included. */
const FILL = 2000;

type Exports = Record<string, (...args: number[]) => number>;

/** Compiles the core for Emscripten. Returns a function that makes instances of it which share a memory of 8 wasm pages. */
async function core(constants: readonly string[], entries: readonly string[] = [], ...options: string[]) {
  const { module } = await compile(["src/index.ts", ...entries], ["RSB_EMSCRIPTEN", ...constants], options);
  const compiled = new WebAssembly.Module(Uint8Array.from(module));
  return (threads = 1) => {
    const memory = new WebAssembly.Memory({ initial: END / WASM_PAGE, maximum: END / WASM_PAGE });
    let end = WASM_PAGE;
    let isFull = false;
    const known: Record<string, unknown> = {
      memory,
      __rsb_state: STATE,
      __errno_location: () => 16,
      sbrk(bytes: number) {
        if (end + bytes > END && isFull) throw new Error("Aborted(OOM)");
        if (end + bytes > END) return -1;
        end += bytes;
        return end - bytes;
      },
    };
    const env: WebAssembly.ModuleImports = {};
    for (const { name, kind } of WebAssembly.Module.imports(compiled))
      env[name] = (known[name] ?? (kind === "global" ? 0 : () => 0)) as WebAssembly.ImportValue;
    const instances = Array.from(
      { length: threads },
      () => new WebAssembly.Instance(compiled, { env }).exports as Exports,
    );
    /** Uses up all pages, and all slots for `size` bytes. From then on `sbrk` ends the program. */
    const fill = (size = FILL) => {
      const { page_alloc, malloc } = instances[0]!;
      while (page_alloc!(FILL, 1) !== 0);
      while (malloc!(size) !== 0);
      isFull = true;
    };
    return { instances, fill };
  };
}

const release = await core([]);
const threads = await core(["RSB_MT"]);
const hardened = await core(["RSB_HARDENED"], ["src/faults.ts"], "--enable", "simd");

for (const [name, start] of [
  ["release", release],
  ["hardened", hardened],
] as const) {
  for (const [from, to] of [
    [5000, 100],
    [40_000, 100],
    [40_000, 10_000],
  ] as const) {
    test(`${name}: realloc from ${from} to ${to} bytes leaves the block where it is`, () => {
      const { instances, fill } = start();
      const { malloc, realloc } = instances[0]!;
      const block = malloc!(from);
      fill();
      assert.is(realloc!(block, to), block);
    });
  }
}

test("the first malloc of a thread takes a free slot, if need be without a cache", () => {
  const { instances, fill } = threads(2);
  const [one, other] = instances as [Exports, Exports];
  const blocks = Array.from({ length: 200 }, () => one.malloc!(500));
  fill();
  // The pages stay in use, so that there is none for a cache.
  for (const [i, block] of blocks.entries()) if (i % 2) one.free!(block);
  assert.is.not(other.malloc!(500), 0);
});

test("hardened: a large block begins where one was just freed, as there is no room elsewhere", () => {
  const { instances, fill } = hardened();
  const { malloc, free } = instances[0]!;
  const block = malloc!(40_000);
  fill();
  free!(block);
  assert.is(malloc!(40_000), block);
});

test("hardened: a slot is taken from quarantine", () => {
  const { instances, fill } = hardened();
  const { malloc, free } = instances[0]!;
  const block = malloc!(500);
  fill(500);
  free!(block);
  assert.is(malloc!(500), block);
});

test.run();
