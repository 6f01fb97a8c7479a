/** The heap reader on heaps of other builds: for threads, where free slots may be in caches, and for Emscripten. */
import path from "node:path";
import { readFile } from "node:fs/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { largeSizes, readHeaps, type HeapReport, type Region } from "../npm/inspect/index.ts";
import { buildEmscripten, linkLibrary, runEmscripten } from "../tools/emscripten.ts";
import { library } from "../tools/libraries.ts";
import { emscripten } from "./support-emscripten.ts";
import { FOLDER, LAYOUTS, SIZES, checkRounding } from "./support-inspect.ts";
import {
  VARIANTS,
  buildThreaded,
  startThreads,
  type Call,
  type Threads,
  type Variant,
} from "./support-threads.ts";
import { needs } from "./support.ts";

const PAGES = 1024;
const EXPORTED = [
  "__stack_pointer",
  "rsbmalloc",
  "rsbfree",
  "rsbmalloc_usable_size",
  "rsbpage_alloc",
  "rsbpage_free",
];

/** Reads the memory, which must contain exactly one heap, without damage. */
function readHeap(memory: ArrayBufferLike): HeapReport {
  const [heap, ...others] = readHeaps(memory, LAYOUTS);
  assert.equal(others, []);
  assert.equal(heap!.damage, []);
  return heap!;
}

/** Returns the addresses of the thread caches; none in builds without them. */
function cachesIn(memory: ArrayBufferLike, heap: HeapReport): number[] {
  const { STATE_CACHES, CACHE_RESERVE } = LAYOUTS[0]!;
  const words = new Uint32Array(memory);
  const caches: number[] = [];
  for (let at = heap.state + STATE_CACHES; words[at / 4] !== 0; at = caches.at(-1)! + CACHE_RESERVE)
    caches.push(words[at / 4]!);
  return caches;
}

function regionAt({ regions, pageSize }: HeapReport, address: number): Region | undefined {
  return regions.find((region) => (address - region.address) >>> 0 < region.pages * pageSize);
}

/** The number of blocks of each size. */
function tally(sizes: readonly number[]): Record<number, number> {
  const counts: Record<number, number> = {};
  for (const size of sizes) counts[size] = (counts[size] ?? 0) + 1;
  return counts;
}

const build = (variant: Variant): Promise<WebAssembly.Module> =>
  buildThreaded(variant, ["wasi-tests/programs/threads.c"], PAGES, { exported: EXPORTED });

for (const variant of [...VARIANTS, "mt-hardened"] as const) {
  test(`${variant}: the reader counts the blocks that a single thread freed as free`, async () => {
    const { memory, exports } = startThreads(await build(variant), PAGES);
    const blocks = [100, 2000, 50_000].map((size) => exports.rsbmalloc!(size));
    const inUse = readHeap(memory.buffer).inUse;
    assert.ok(inUse >= 52_100, `only ${inUse} bytes are in use`);
    for (const block of blocks) exports.rsbfree!(block);
    assert.is(readHeap(memory.buffer).inUse, 0);
  });

  test(`${variant}: what is lost to rounding is the most that requests can lose`, async () => {
    const { memory, exports } = startThreads(await build(variant), PAGES);
    checkRounding(memory, exports.rsbmalloc!);
  });
}

for (const variant of VARIANTS) {
  test(`${variant}: the reader counts the blocks that running threads freed, and no others, as free`, async () => {
    const { memory, exports, run } = startThreads(await build(variant), PAGES);
    const { rsbmalloc, rsbfree, rsbmalloc_usable_size } = exports;

    // This thread and another allocate; this one and a third free two of every three blocks. None tells the allocator
    // that it ends, so freed slots stay in their caches.
    const own = SIZES.map((size) => rsbmalloc!(size));
    const others = await run(SIZES.map((size): Call => ["rsbmalloc", size]));
    const isKept = (_: number, index: number): boolean => index % 3 === 0;
    const isFreed = (_: number, index: number): boolean => index % 3 !== 0;
    for (const block of own.filter(isFreed)) rsbfree!(block);
    await run(others.filter(isFreed).map((block): Call => ["rsbfree", block]));

    const kept = [...own.filter(isKept), ...others.filter(isKept)];
    const heap = readHeap(memory.buffer);
    const sizes = kept.map((block) => rsbmalloc_usable_size!(block));
    const slots = heap.bins.filter(({ usedSlots }) => usedSlots > 0);
    assert.equal(
      Object.fromEntries([
        ...slots.map(({ slotSize, usedSlots }) => [slotSize, usedSlots]),
        ...largeSizes(heap).map(({ size, blocks }) => [size, blocks]),
      ]),
      tally(sizes),
    );
    assert.is(
      heap.inUse,
      sizes.reduce((sum, size) => sum + size),
    );
    assert.is(heap.heap, heap.inUse + heap.free);
    const caches = cachesIn(memory.buffer, heap);
    assert.is(caches.length > 0, variant === "mt");
    for (const cache of caches) assert.is(regionAt(heap, cache)?.serves, "map");

    for (const block of kept) rsbfree!(block);
    assert.is(readHeap(memory.buffer).inUse, 0);
  });

  const MISUSES: Readonly<Record<string, (heap: Threads, a: number, b: number) => void>> = {
    "a double free": ({ exports }, a, b) => [a, b, a].forEach((block) => exports.rsbfree!(block)),
    "a write after free": ({ exports, memory }, a) => {
      exports.rsbfree!(a);
      new DataView(memory.buffer).setUint32(a, 0x12345678, true);
    },
  };
  for (const [name, misuse] of Object.entries(MISUSES)) {
    test(`${variant}: the reader reports ${name}`, async () => {
      const threads = startThreads(await build(variant), PAGES);
      const [a, b] = [24, 24].map((size) => threads.exports.rsbmalloc!(size));
      misuse(threads, a!, b!);
      const [heap] = readHeaps(threads.memory.buffer, LAYOUTS);
      assert.is(heap!.damage.length, 1);
      assert.match(heap!.damage[0]!, /written to after free|twice/);
    });
  }
}

/** For each variant of the library: the flags to link it, and how many threads the program then has. */
const EMSCRIPTEN: Readonly<Record<string, readonly [flags: readonly string[], threads: number]>> = {
  "": [[], 1],
  locked: [["-pthread", "-sPTHREAD_POOL_SIZE=2"], 3],
  mt: [["-pthread", "-sPTHREAD_POOL_SIZE=2"], 3],
};

for (const [variant, [flags, threads]] of Object.entries(EMSCRIPTEN)) {
  const name = path.basename(library("wasm32-emscripten", variant), ".a");
  needs("emcc")(`the reader reads the heap of an Emscripten program with ${name}`, async () => {
    const script = await buildEmscripten(emscripten, {
      inputs: ["wasi-tests/programs/emscripten-inspect.c"],
      flags: ["-O1", "-fno-builtin", "-sEXIT_RUNTIME=1", ...flags, ...linkLibrary(variant)],
    });
    const file = path.join(FOLDER, `${name}.memory`);
    const { exitCode, stderr } = await runEmscripten(script, [file]);
    assert.is(exitCode, 0, stderr);
    const heap = readHeap(Uint8Array.from(await readFile(file)).buffer);
    // Blocks of 3,000 and 100,000 bytes, rounded up. The blocks of the C library and of threads have other sizes.
    assert.is(heap.bins.find(({ slotSize }) => slotSize === 3072)!.usedSlots, 10 * threads);
    assert.is(largeSizes(heap).find(({ size }) => size === 49 * 2048)!.blocks, 2 * threads);
  });
}

test.run();
