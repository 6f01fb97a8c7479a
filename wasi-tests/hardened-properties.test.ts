/**
 * The hardened libraries called by correct programs: random sequences of calls, as in heap-model.test.ts, and how they
 * delay the reuse of freed memory.
 */
import { readFile } from "node:fs/promises";
import fc from "fast-check";
import { test } from "uvu";
import { readHeaps } from "../npm/inspect/reader.ts";
import { WASM_PAGE } from "../npm/webassembly.ts";
import { build, findCompiler } from "../tools/compiler.ts";
import { library } from "../tools/libraries.ts";
import { HARDENED_LAYOUT } from "./heap-check.ts";
import {
  ALL_PAGES,
  PAGE,
  PREFIXED_NAMES,
  apiOf,
  assert,
  assertKept,
  calls,
  emptyModel,
  fillUp,
  make,
  release,
  type Call,
} from "./support-heap.ts";

const INITIAL = 4;
const MOST_PAGES = 16384;
/** More bytes than the program has besides its stack, in multiples of the stack's alignment. */
const STATIC = 4096;
const EXPORTED = ["rsbmalloc_check", ...PREFIXED_NAMES];

/** The libraries for one thread and for several. These tests use a single thread with both. */
const LIBRARIES = [
  { name: "hardened", archive: library("wasm32-wasi", "hardened"), shared: false },
  { name: "mt-hardened", archive: library("wasm32-wasi-threads", "mt-hardened"), shared: true },
];

/** Makes a call, which must trap in the library's function `rsbmalloc_FAULT`. */
function assertFault(fault: string, call: () => void, what = "the call"): void {
  let stack = "no trap";
  try {
    call();
  } catch (error) {
    stack = (error as Error).stack ?? String(error);
  }
  assert(
    new RegExp(`\\brsbmalloc_${fault}\\b`).test(stack),
    `${what} was not reported as ${fault}: ${stack}`,
  );
}

const compiler = await findCompiler();

for (const { name, archive, shared } of LIBRARIES) {
  /** Links the program for memories of at most `pages` wasm pages, with a stack of `stack` bytes. */
  const link = (pages: number, stack: number) =>
    build(compiler, {
      target: "none",
      inputs: ["wasi-tests/programs/hardened-calls.c", archive],
      flags: ["-O2", "-fno-builtin", "-mbulk-memory", ...(shared ? ["-matomics"] : [])],
      includes: ["include"],
      linkFlags: [
        "--import-memory",
        ...(shared ? ["--shared-memory"] : []),
        `--max-memory=${pages * WASM_PAGE}`,
        ...EXPORTED.map((exported) => `--export=${exported}`),
        "-z",
        `stack-size=${stack}`,
      ].map((flag) => `-Wl,${flag}`),
    });
  const module = new WebAssembly.Module(await readFile(await link(MOST_PAGES, WASM_PAGE)));
  const whole = new WebAssembly.Module(await readFile(await link(ALL_PAGES, WASM_PAGE)));

  /** Makes an empty heap in a memory of at most `pages` wasm pages. The host's random bytes depend on `seed`. */
  const start = (seed: number, pages: number, program = module, initial = INITIAL) => {
    const memory = new WebAssembly.Memory({ initial, maximum: pages, shared });
    const random_get = (at: number, count: number) => {
      const bytes = Uint8Array.from(
        { length: count },
        (_, i) => Math.imul((seed + 1) * (i + 1), 2654435761) >>> 24,
      );
      new Uint8Array(memory.buffer, at, count).set(bytes);
      return 0;
    };
    const instance = new WebAssembly.Instance(program, {
      env: { memory },
      wasi_snapshot_preview1: { random_get },
    });
    const exports = instance.exports as unknown as Record<string, (...args: number[]) => number>;
    return { exports, api: apiOf(memory, exports) };
  };

  /**
   * Runs a sequence on a new heap, which it fills up in the end if calls may fail, and frees all blocks. Checks the heap
   * after every 16 calls.
   */
  const run = (
    sequence: readonly Call[],
    mayFail: boolean,
    { exports, api }: ReturnType<typeof start>,
  ): void => {
    // Addresses in the last wasm page stand for blocks of no bytes.
    const model = emptyModel((ALL_PAGES - 1) * WASM_PAGE);
    for (const [at, step] of sequence.entries()) {
      make(api, model, step, mayFail);
      if (at % 16 === 15) exports.rsbmalloc_check!();
    }
    if (mayFail) fillUp(api, model);
    assertKept(api, model);
    exports.rsbmalloc_check!();
    while (model.blocks.length > 0) release(api, model, model.blocks.length - 1);
    exports.rsbmalloc_check!();
    const inUse = exports.in_use!();
    assert(inUse === 0, `${inUse} bytes are in use after all blocks were freed`);
  };

  test(`${name}: a large block reuses a freed one's pages if there is no room elsewhere`, () => {
    // It must get them from quarantine directly: if the pages became free first, they could go to another use.
    const { exports, api } = start(1, 16);
    const blocks: number[] = [];
    for (let block; (block = api.page_alloc(PAGE - 1, PAGE)) !== 0;) blocks.push(block);
    const [hole] = blocks.filter((block) => [1, 2].every((n) => blocks.includes(block + n * PAGE)));
    for (const n of [0, 1, 2]) api.page_free(hole! + n * PAGE);
    for (let i = 0; i < 3; ++i) {
      const block = api.page_alloc(3 * PAGE - 1, PAGE);
      assert(block === hole, `the block was allocated at ${block}, not in the only free pages, at ${hole}`);
      exports.rsbmalloc_check!();
      api.page_free(block);
    }
  });

  test(`${name}: a large block does not begin where the one just freed did`, () => {
    const { api } = start(1, MOST_PAGES);
    let last = 0;
    for (let i = 0; i < 10; ++i) {
      const block = api.malloc(100_000);
      assert(block !== last, `the block begins at ${block}, like the one just freed`);
      api.free(block);
      last = block;
    }
  });

  test(`${name}: an over-aligned large block does not begin where the one just freed did`, () => {
    const { exports, api } = start(1, MOST_PAGES);
    for (const alignment of [4096, WASM_PAGE]) {
      const freed = api.aligned_alloc(alignment, 100_000);
      api.free(freed);
      const block = api.aligned_alloc(alignment, 100_000);
      assert(
        block !== freed && block % alignment === 0,
        `the block begins at ${block}, like the one just freed`,
      );
      exports.rsbmalloc_check!();
    }
  });

  test(`${name}: malloc takes a slot from quarantine when memory is out`, () => {
    const { api } = start(1, 5);
    const pages: number[] = [];
    for (let page; (page = api.page_alloc(2000, 1)) !== 0;) pages.push(page);
    for (const page of pages.slice(0, 2)) api.page_free(page);
    const blocks: number[] = [];
    for (let block; (block = api.malloc(12)) !== 0;) blocks.push(block);
    api.free(blocks[0]!);
    assert(api.malloc(12) === blocks[0], "malloc did not return the block in quarantine");
    assert(api.malloc(12) === 0, "a second malloc succeeded, though only one block was freed");
  });

  test(`${name}: a run of slots does not begin where a large block was just freed`, () => {
    const { api } = start(1, MOST_PAGES);
    const freed = api.malloc(20_000);
    api.free(freed);
    for (let i = 0; i < 2; ++i)
      assert(api.malloc(1000) !== freed, "a slot begins where the large block was just freed");
  });

  test(`${name}: blocks of size 0 can be freed with size 0, even after the special addresses for them run out`, () => {
    const { exports, api } = start(1, MOST_PAGES);
    // More than there are addresses for zero-size blocks: the rest are blocks of one byte.
    const blocks = Array.from({ length: 5000 }, () => api.malloc(0));
    for (const block of blocks) exports.rsbfree_sized!(block, 0);
    const aligned = Array.from({ length: 100 }, () => api.aligned_alloc(1024, 0));
    for (const block of aligned) exports.rsbfree_aligned_sized!(block, 1024, 0);
    exports.rsbmalloc_check!();
  });

  test(`${name}: a write before a block that lies right after a metadata page or the page map is detected`, () => {
    const found = { metadata: 0, map: 0 };
    for (let seed = 1; seed <= 40; ++seed) {
      const { exports, api } = start(seed, MOST_PAGES);
      const blocks = Array.from({ length: 300 }, (_, i) => api.malloc(1 + ((i * 769 * seed) % 15_000)));
      const [heap] = readHeaps(api.memory.buffer, [HARDENED_LAYOUT]);
      const words = new Uint32Array(api.memory.buffer);
      const field = (offset: number) => words[(heap!.state + offset) >>> 2]!;
      const { STATE_MAP, STATE_CAPACITY, STATE_GRADES, WORD_PAGES, END_GRADES, METADATA } = HARDENED_LAYOUT;
      const mapEnd = field(STATE_GRADES) + field(STATE_CAPACITY) / WORD_PAGES + END_GRADES;
      const before = (block: number) => {
        if (block % PAGE !== 0) return undefined;
        if (block === Math.ceil(mapEnd / PAGE) * PAGE) return "map";
        const run = words[(field(STATE_MAP) + 4 * (block / PAGE - 1)) >>> 2];
        return run === heap!.state + METADATA ? "metadata" : undefined;
      };
      for (const block of blocks) {
        const what = before(block);
        if (what === undefined) continue;
        found[what] += 1;
        for (const bytes of [1, 8, 32]) {
          const written = new Uint8Array(api.memory.buffer, block - bytes, bytes);
          written.fill(0x41);
          const where = `a write of ${bytes} bytes before a block behind the ${what}`;
          assertFault("overflow", () => exports.rsbmalloc_check!(), where);
          written.fill(0);
        }
      }
    }
    assert(found.metadata > 0 && found.map > 0, `blocks found: ${JSON.stringify(found)}`);
  });

  test(`${name}: a block of size 0 that was freed cannot be resized, even if memory or its addresses are used up`, () => {
    const { api } = start(1, 100);
    const empty = Array.from({ length: 4096 }, () => api.malloc(0));
    api.free(empty[77]!);
    assertFault("double_free", () => api.realloc(empty[77]!, 0));
    assertFault("double_free", () => api.page_realloc(empty[77]!, 100));
    while (api.malloc(2000) !== 0);
    while (api.malloc(12) !== 0);
    api.free(empty[78]!);
    assertFault("double_free", () => api.realloc(empty[78]!, 2000));
  });

  test(`${name}: a block of size 0 is not freed with an alignment that its address lacks`, () => {
    const { exports, api } = start(1, 100);
    const block = [api.aligned_alloc(64, 0), api.aligned_alloc(64, 0)].find((each) => each % 4096 !== 0)!;
    assertFault("alignment_mismatch", () => exports.rsbfree_aligned_sized!(block, 4096, 0));
    exports.rsbfree_aligned_sized!(block, 64, 0);
  });

  test(`${name}: resizing a freed slot as a page run is a double free`, () => {
    const { api } = start(1, 100);
    const block = api.malloc(100);
    api.free(block);
    assertFault("double_free", () => api.page_realloc(block, 100));
  });

  test(`${name}: a run does not begin where another of the freed runs did, after giving way to one`, () => {
    const { api } = start(1, 1000);
    const [low, high] = [api.page_alloc(2000, 1), api.page_alloc(2000, 1)];
    assert(high === low + PAGE, "the runs are not neighbours");
    api.page_free(high);
    api.page_free(low);
    const next = api.page_alloc(2000, 1);
    assert(next !== low && next !== high, "the run begins where a freed one did");
  });

  test(`${name}: a heap that others left only the end of 4 GiB keeps off the addresses of blocks of no bytes`, () => {
    for (let initial = 65_395; initial <= 65_410; ++initial) {
      const { exports, api } = start(1, ALL_PAGES, whole, initial);
      const empty = api.malloc(0);
      const block = api.malloc(2077);
      if (empty !== 0) api.free(empty);
      if (block !== 0) api.free(block);
      exports.rsbmalloc_check!();
      assert(block < (ALL_PAGES - 1) * WASM_PAGE, `a block was allocated at ${block}`);
    }
  });

  test(`${name}: where memory holds the page map and no more, malloc fails`, async () => {
    for (let room = 4; room <= 12; ++room) {
      const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared });
      const small = new WebAssembly.Module(await readFile(await link(1, WASM_PAGE - room * 1024 - STATIC)));
      const { exports } = new WebAssembly.Instance(small, {
        env: { memory },
        wasi_snapshot_preview1: { random_get: () => 0 },
      });
      const { rsbmalloc } = exports as Record<string, (size: number) => number>;
      // What null pointers would find: the stack is below the heap.
      new Uint32Array(memory.buffer).fill(1040, 0, 1000);
      for (let i = 0; i < 2; ++i) {
        const block = rsbmalloc!(1022);
        assert(block === 0 || block > WASM_PAGE - room * 1024, `there is no heap at ${block}`);
      }
    }
  });

  test(`${name}: the order of slots differs from heap to heap, and successive slots are seldom neighbours`, () => {
    const SEEDS = 40;
    const orders = Array.from({ length: SEEDS }, (_, seed) => {
      const { api } = start(seed, 8);
      return Array.from({ length: 64 }, () => api.malloc(24));
    });
    assert(new Set(orders.map(String)).size === SEEDS, "two heaps hand out slots in the same order");
    const neighbours = orders.flatMap((order) =>
      order.filter((at, i) => Math.abs(at - order[i - 1]!) === 32),
    );
    // In a random order, one in 32 would be.
    assert(
      neighbours.length < orders.flat().length / 8,
      `${neighbours.length} of ${orders.flat().length} slots are next to the one handed out before`,
    );
  });

  test(`${name}: a run is not freed while one half of its slots is in use, whichever half`, () => {
    for (const freed of [0, PAGE / 2]) {
      const { exports, api } = start(1, 8);
      const blocks = Array.from({ length: 1000 }, () => api.malloc(12));
      assert(new Set(blocks).size === blocks.length, "a slot was handed out twice");
      const isFreed = (block: number) => (block & (PAGE / 2)) === freed;
      const kept = blocks.filter((block) => !isFreed(block));
      for (const block of kept) new Uint8Array(api.memory.buffer, block, 12).fill(block >>> 4);
      for (const block of blocks.filter(isFreed)) api.free(block);
      // Takes all free pages, so that a run freed too early would be overwritten.
      while (api.page_alloc(PAGE - 1, 1) !== 0);
      for (const block of kept)
        assert(
          new Uint8Array(api.memory.buffer, block, 12).every((byte) => byte === ((block >>> 4) & 0xff)),
          `the block at ${block}, still in use, has changed`,
        );
      exports.rsbmalloc_check!();
    }
  });

  test(`${name}: empty runs become free for other uses, wherever the last remaining block lies`, () => {
    const pagesLeft = (count: number, kept: number): number => {
      const { api } = start(1, 8);
      const blocks = Array.from({ length: count }, () => api.malloc(12));
      for (const [at, block] of blocks.entries()) if (at !== kept) api.free(block);
      let pages = 0;
      while (api.page_alloc(PAGE - 1, 1) !== 0) pages += 1;
      return pages;
    };
    const most = pagesLeft(1, 0);
    for (const kept of [0, 500, 999]) {
      const pages = pagesLeft(1000, kept);
      assert(pages >= most - 1, `only ${pages} of ${most} pages are free with block ${kept} in use`);
    }
  });

  test(`${name}: the heap continues behind memory that others took, and freeing an address in that traps`, () => {
    const { exports, api } = start(1, MOST_PAGES);
    const before = api.malloc(1);
    // A MiB: as much as one page of the page map describes.
    const foreign = api.memory.grow(16) * WASM_PAGE;
    const behind = api.malloc(100_000);
    exports.rsbmalloc_check!();
    api.free(before);
    api.free(behind);
    assertFault("invalid_free", () => api.free(foreign + 12 * WASM_PAGE));
  });

  const sequences = fc.array(calls(), { maxLength: 80, size: "max" });
  const seeds = fc.nat(255);

  test(`${name}: any sequence of calls agrees with the model and does not trap`, () => {
    const property = fc.property(sequences, seeds, (sequence, seed) =>
      run(sequence, false, start(seed, MOST_PAGES)),
    );
    fc.assert(property, { numRuns: 500, includeErrorInReport: true });
  });

  test(`${name}: any sequence of calls in a small memory agrees with the model, where calls may fail with ENOMEM`, () => {
    const pages = fc.integer({ min: INITIAL, max: 24 });
    const property = fc.property(sequences, seeds, pages, (sequence, seed, most) =>
      run(sequence, true, start(seed, most)),
    );
    fc.assert(property, { numRuns: 500, includeErrorInReport: true });
  });

  for (const { place, pages, most, mayFail } of [
    { place: "just below 2 GiB", pages: ALL_PAGES / 2, most: 150, mayFail: false },
    {
      place: "just below 4 GiB, where calls may fail with ENOMEM",
      pages: ALL_PAGES,
      most: 300,
      mayFail: true,
    },
  ]) {
    test(`${name}: any sequence of calls agrees with the model if others took the memory up to ${place}`, () => {
      const property = fc.property(sequences, seeds, fc.nat(most), (sequence, seed, left) =>
        run(sequence, mayFail, start(seed, ALL_PAGES, whole, pages - left)),
      );
      fc.assert(property, { numRuns: 25, includeErrorInReport: true });
    });
  }
}

test.run();
