/** Random sequences of correct calls, as in heap-model.test.ts: the hardened libraries do as they should, and never trap. */
import { readFile } from "node:fs/promises";
import fc from "fast-check";
import { test } from "uvu";
import { build, findCompiler } from "../tools/compiler.ts";
import {
  NAMES,
  PAGE,
  WASM_PAGE,
  apiOf,
  assert,
  assertKept,
  calls,
  emptyModel,
  make,
  release,
  type Call,
} from "./support-heap.ts";

const INITIAL = 4;
const MOST_PAGES = 16384;
const EXPORTED = ["rsbmalloc_check", ...Object.values(NAMES)];

/** For one thread, and for several, though here is but one. */
const LIBRARIES = [
  { name: "hardened", library: "lib/wasm32-wasi/librsbmallocc-hardened.a", shared: false },
  { name: "mt-hardened", library: "lib/wasm32-wasi-threads/librsbmallocc-mt-hardened.a", shared: true },
];

const compiler = await findCompiler();

for (const { name, library, shared } of LIBRARIES) {
  const memoryFlags = ["--import-memory", ...(shared ? ["--shared-memory"] : [])];
  const file = await build(compiler, {
    target: "none",
    inputs: ["wasi-tests/programs/hardened-calls.c", library],
    flags: ["-O2", "-fno-builtin", "-mbulk-memory", ...(shared ? ["-matomics"] : [])],
    includes: ["include"],
    linkFlags: [
      ...[...memoryFlags, `--max-memory=${MOST_PAGES * WASM_PAGE}`].map((flag) => `-Wl,${flag}`),
      ...EXPORTED.map((exported) => `-Wl,--export=${exported}`),
    ],
  });
  const module = new WebAssembly.Module(await readFile(file));

  /** An empty heap in a memory of at most `pages` wasm pages. */
  const start = (seed: number, pages: number) => {
    const memory = new WebAssembly.Memory({ initial: INITIAL, maximum: pages, shared });
    const random_get = (at: number, count: number) => {
      new Uint8Array(memory.buffer, at, count).fill(seed);
      return 0;
    };
    const instance = new WebAssembly.Instance(module, {
      env: { memory },
      wasi_snapshot_preview1: { random_get },
    });
    const exports = instance.exports as unknown as Record<string, (...args: number[]) => number>;
    return { exports, api: apiOf(memory, exports) };
  };

  /** From an empty heap to one that is empty again. */
  const run = (sequence: readonly Call[], seed: number, pages: number, mayFail: boolean): void => {
    const { exports, api } = start(seed, pages);
    const model = emptyModel();
    for (const [at, step] of sequence.entries()) {
      make(api, model, step, mayFail);
      if (at % 16 === 15) exports.rsbmalloc_check!();
    }
    assertKept(api, model);
    exports.rsbmalloc_check!();
    while (model.blocks.length > 0) release(api, model, model.blocks.length - 1);
    exports.rsbmalloc_check!();
    const inUse = exports.in_use!();
    assert(inUse === 0, `${inUse} bytes are in use when all is freed`);
  };

  test(`${name}: a large block lies where one was before, if there is no room elsewhere`, () => {
    // Were the hole given back before there is another, it could go to other uses.
    const { exports, api } = start(1, 16);
    const blocks: number[] = [];
    for (let block; (block = api.page_alloc(PAGE - 1, PAGE)) !== 0;) blocks.push(block);
    const [hole] = blocks.filter((block) => [1, 2].every((n) => blocks.includes(block + n * PAGE)));
    for (const n of [0, 1, 2]) api.page_free(hole! + n * PAGE);
    for (let i = 0; i < 3; ++i) {
      const block = api.page_alloc(3 * PAGE - 1, PAGE);
      assert(block === hole, `${block} for a block that fits at ${hole}`);
      exports.rsbmalloc_check!();
      api.page_free(block);
    }
  });

  test(`${name}: a large block does not begin where the last one did`, () => {
    const { api } = start(1, MOST_PAGES);
    let last = 0;
    for (let i = 0; i < 10; ++i) {
      const block = api.malloc(100_000);
      assert(block !== last, `a block at ${block} again`);
      api.free(block);
      last = block;
    }
  });

  test(`${name}: others may have as much memory between the heap's as one region of the page map, and more`, () => {
    const { exports, api } = start(1, MOST_PAGES);
    const before = api.malloc(1);
    const foreign = api.memory.grow(16) * WASM_PAGE;
    const behind = api.malloc(100_000);
    exports.rsbmalloc_check!();
    api.free(before);
    api.free(behind);
    let stack: string | undefined = "";
    try {
      api.free(foreign + 12 * WASM_PAGE);
    } catch (error) {
      stack = (error as Error).stack;
    }
    assert(/\brsbmalloc_invalid_free\b/.test(stack ?? ""), `another's memory is freed: ${stack}`);
  });

  const sequences = fc.array(calls(), { maxLength: 80, size: "max" });
  const seeds = fc.nat(255);

  test(`${name}: any sequence of calls does what it should`, () => {
    const property = fc.property(sequences, seeds, (sequence, seed) =>
      run(sequence, seed, MOST_PAGES, false),
    );
    fc.assert(property, { numRuns: 500, includeErrorInReport: true });
  });

  test(`${name}: the same in a small memory, where calls fail with ENOMEM`, () => {
    const pages = fc.integer({ min: INITIAL, max: 24 });
    const property = fc.property(sequences, seeds, pages, (sequence, seed, most) =>
      run(sequence, seed, most, true),
    );
    fc.assert(property, { numRuns: 500, includeErrorInReport: true });
  });
}

test.run();
