/**
 * Emscripten's default: `sbrk` ends the program instead of failing. A call that can do without more memory must not ask
 * for it once linear memory is used up.
 */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { WASM_PAGE } from "../npm/webassembly.ts";
import { compileForEmscripten, startProgram, type Exports } from "./support-sbrk.ts";

const END = 8 * WASM_PAGE;
/** What memory is filled with: blocks of one page, its guard in the hardened build included. */
const FILL = 2000;

/** Makes instances of the core that share a memory of 8 wasm pages. */
function start(module: WebAssembly.Module, threads = 1) {
  let isFull = false;
  const { instances, take } = startProgram(module, {
    base: WASM_PAGE,
    initial: END / WASM_PAGE,
    maximum: END / WASM_PAGE,
    threads,
    before(bytes) {
      if (isFull && take(0) + bytes > END) throw new Error("Aborted(OOM)");
      return true;
    },
  });
  /** Uses up all pages, and all slots for `size` bytes. From then on `sbrk` ends the program. */
  const fill = (size = FILL) => {
    const { page_alloc, malloc } = instances[0]!;
    while (page_alloc!(FILL, 1) !== 0);
    while (malloc!(size) !== 0);
    isFull = true;
  };
  return { instances, fill };
}

const release = await compileForEmscripten();
const threads = await compileForEmscripten("RSB_MT");
const hardened = await compileForEmscripten("RSB_HARDENED");

for (const [name, module] of [
  ["release", release],
  ["hardened", hardened],
] as const) {
  for (const [from, to] of [
    [5000, 100],
    [40_000, 100],
    [40_000, 10_000],
  ] as const) {
    test(`${name}: realloc from ${from} to ${to} bytes leaves the block where it is`, () => {
      const { instances, fill } = start(module);
      const { malloc, realloc } = instances[0]!;
      const block = malloc!(from);
      fill();
      assert.is(realloc!(block, to), block);
    });
  }
}

test("the first malloc of a thread takes a free slot, if need be without a cache", () => {
  const { instances, fill } = start(threads, 2);
  const [one, other] = instances as [Exports, Exports];
  const blocks = Array.from({ length: 200 }, () => one.malloc!(500));
  fill();
  // The pages stay in use, so that there is none for a cache.
  for (const [i, block] of blocks.entries()) if (i % 2) one.free!(block);
  assert.is.not(other.malloc!(500), 0);
});

test("hardened: a large block begins where one was just freed, as there is no room elsewhere", () => {
  const { instances, fill } = start(hardened);
  const { malloc, free } = instances[0]!;
  const block = malloc!(40_000);
  fill();
  free!(block);
  assert.is(malloc!(40_000), block);
});

test("hardened: a slot is taken from quarantine", () => {
  const { instances, fill } = start(hardened);
  const { malloc, free } = instances[0]!;
  const block = malloc!(500);
  fill(500);
  free!(block);
  assert.is(malloc!(500), block);
});

test.run();
