/** Memory over time: what one phase of a program frees, the next one uses. */
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import type { RandomGenerator } from "pure-rand/types/RandomGenerator";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Heap } from "../npm/index.ts";
import { WASM_PAGE } from "../npm/webassembly.ts";
import { LAYOUT, checkHeap } from "./heap-check.ts";
import { PAGE, checkAgainst, emptyModel, newHeap, pagesOf } from "./support-heap.ts";

const MIB = 2 ** 20;

interface Phase {
  readonly from: number;
  readonly to: number;
  /** Bytes asked for that are in use at its peak. */
  readonly bytes: number;
}

const PHASES: readonly Phase[] = [
  { from: 1, to: 64, bytes: MIB },
  { from: 16, to: 16, bytes: 2 * MIB },
  { from: 100, to: 1000, bytes: 8 * MIB },
  { from: 48, to: 48, bytes: 3 * MIB },
  { from: 1000, to: 16_384, bytes: 8 * MIB },
  { from: 16_385, to: 100_000, bytes: 8 * MIB },
  { from: 1, to: 100_000, bytes: 8 * MIB },
  { from: 3000, to: 3000, bytes: 6 * MIB },
  { from: 1_000_000, to: 3_000_000, bytes: 9 * MIB },
];

/** Allocates up to the phase's peak, keeps exchanging blocks there, and frees all. */
function live(heap: Heap, { from, to, bytes }: Phase, random: RandomGenerator, exchanges = 500): void {
  const blocks: [number, number][] = [];
  let inUse = 0;
  const add = () => {
    const size = uniformInt(random, from, to);
    const block = heap.malloc(size);
    assert.is.not(block, 0);
    blocks.push([block, size]);
    inUse += size;
  };
  const drop = () => {
    const at = uniformInt(random, 0, blocks.length - 1);
    const [block, size] = blocks[at]!;
    blocks[at] = blocks.at(-1)!;
    blocks.pop();
    heap.free(block);
    inUse -= size;
  };
  while (inUse + to <= bytes) add();
  for (let exchange = 0; exchange < exchanges; ++exchange) {
    drop();
    while (inUse + to <= bytes) add();
  }
  while (blocks.length > 0) drop();
}

const memoryOf = (heap: Heap) => heap.memory.buffer.byteLength;

const ROUNDS = 10;

/** Bytes of memory after the phase was gone through `rounds` times, in a heap that does nothing else. */
async function aloneIn(phase: Phase, rounds = 1): Promise<number> {
  const { heap } = await newHeap();
  const random = xoroshiro128plus(1);
  for (let round = 0; round < rounds; ++round) live(heap, phase, random);
  return memoryOf(heap);
}

test("a long run of phases needs no more memory than its largest phase, within a quarter", async () => {
  const alone: number[] = [];
  for (const phase of PHASES) alone.push(await aloneIn(phase, ROUNDS));
  const largest = Math.max(...alone);
  const { heap, base } = await newHeap();
  const random = xoroshiro128plus(2);
  for (let round = 0; round < ROUNDS; ++round) {
    for (const phase of PHASES) live(heap, phase, random);
  }
  const used = memoryOf(heap);
  assert.ok(used <= 1.25 * largest, `${used} bytes, ${largest} for the largest phase alone`);
  assert.is(heap.mallinfo().inUse, 0);
  checkAgainst(heap, emptyModel(), base);
});

for (const [first, second] of [
  [16, 48],
  [48, 16],
  [32, 5000],
  [5000, 32],
  [1000, 200_000],
  [200_000, 1000],
  [16_384, 4],
]) {
  test(`memory that blocks of ${first} bytes leave serves blocks of ${second}, but for a tenth at most`, async () => {
    const [one, other] = [first!, second!].map((size) => ({ from: size, to: size, bytes: 8 * MIB })) as [
      Phase,
      Phase,
    ];
    const alone = await Promise.all([aloneIn(one), aloneIn(other)]);
    const { heap } = await newHeap();
    const random = xoroshiro128plus(3);
    live(heap, one, random);
    live(heap, other, random);
    const used = memoryOf(heap);
    const needed = Math.max(...alone);
    assert.ok(used <= 1.1 * needed + WASM_PAGE, `${used} bytes, ${needed} for the larger phase alone`);
  });
}

test("what many blocks leave behind serves one that is nearly as large as they were together", async () => {
  for (const size of [1000, 16_384, 100_000, MIB, 3 * MIB]) {
    const { heap } = await newHeap();
    const blocks = Array.from({ length: Math.ceil((48 * MIB) / size) }, () => heap.malloc(size));
    const before = memoryOf(heap);
    for (const block of blocks) heap.free(block);
    assert.is.not(heap.malloc(44 * MIB), 0);
    const grown = memoryOf(heap) - before;
    assert.ok(grown <= 5 * MIB, `memory grows by ${grown} bytes after blocks of ${size} bytes`);
  }
});

/** How many pages are free for any use after all that waits was seen to. */
function freePages(heap: Heap): number {
  heap.mallinfo();
  return pagesOf(heap).free.reduce((sum, { bytes }) => sum + bytes / PAGE, 0);
}

test("pages with Runs are free once none of these is in use, but for the first", async () => {
  const { heap } = await newHeap();
  const metadataPages = (): number => pagesOf(heap).metadataPages.length;
  const blocks = Array.from({ length: 1000 }, () => heap.malloc(20_000));
  assert.ok(metadataPages() > 10);
  for (const block of blocks) heap.free(block);
  heap.mallinfo();
  assert.is(metadataPages(), 1);
});

test("slots larger than a page are free pages once their run is empty, though some were never used", async () => {
  const { heap } = await newHeap();
  heap.free(heap.page_alloc(MIB, 1));
  const before = freePages(heap);
  const blocks = LAYOUT.SLOT_SIZES.filter((size) => size > PAGE).map((size) => heap.malloc(size));
  assert.is.not(freePages(heap), before);
  for (const block of blocks) heap.free(block);
  assert.is(freePages(heap), before);
});

test("a bin's short run is cut from the lowest free pages, and leaves what lies further on whole", async () => {
  const { heap } = await newHeap();
  const [low, , high] = [100, 1, 20, 1].map((pages) => heap.page_alloc(pages * PAGE, 1));
  heap.free(low!);
  heap.free(high!);
  heap.mallinfo();
  const slot = heap.malloc(100);
  assert.ok(slot >= low! && slot < low! + 100 * PAGE, `${slot} is not in the 100 pages from ${low} on`);
});

test("the lowest free pages that are enough are taken, wherever they begin and end", async () => {
  const { heap } = await newHeap({ initial: 100 });
  const random = xoroshiro128plus(7);
  const blocks: number[] = [];
  for (let i = 0; i < 3000; ++i) {
    if (uniformInt(random, 0, 1) === 0 && blocks.length > 0) {
      heap.free(blocks.splice(uniformInt(random, 0, blocks.length - 1), 1)[0]!);
      continue;
    }
    heap.mallinfo();
    const pages = 2 ** uniformInt(random, 0, 7) + uniformInt(random, 0, 3);
    const lowest = pagesOf(heap).free.find((run) => run.bytes >= pages * PAGE);
    const block = heap.page_alloc(pages * PAGE, 1);
    if (lowest) assert.is(block, lowest.address, `${pages} pages in call ${i}`);
    blocks.push(block);
  }
});

test("one block of every bin's size takes little more than the pages that it could not do without", async () => {
  const { heap } = await newHeap();
  const sizes = heap.mallinfo().bins.map(({ slotSize }) => slotSize);
  for (const size of sizes) heap.malloc(size);
  const least = sizes.reduce((sum, size) => sum + Math.ceil(size / PAGE) * PAGE, 0);
  const { peak } = heap.mallinfo();
  assert.ok(
    peak <= 1.25 * least,
    `${peak} bytes of pages for ${sizes.length} blocks, of which ${least} hold them`,
  );
});

test("a bin that has much gets longer runs, though memory must grow for them", async () => {
  for (const size of [16, 640, 16_384]) {
    const { heap } = await newHeap();
    const blocks = Array.from({ length: (8 * MIB) / size }, () => heap.malloc(size));
    const { runAt } = pagesOf(heap);
    const runs = new Set(blocks.map((block) => runAt(Math.floor(block / PAGE))));
    const least = (8 * MIB) / Math.ceil(size / PAGE) / PAGE;
    assert.ok(runs.size < least / 2, `${runs.size} runs of slots of ${size} bytes`);
  }
});

test("blocks exchanged for a long time at a constant load need no more memory than at first", async () => {
  const { heap } = await newHeap();
  const random = xoroshiro128plus(4);
  const sizes = { from: 1, to: 4000, bytes: 4 * MIB };
  live(heap, sizes, random, 10_000);
  const first = memoryOf(heap);
  for (let round = 0; round < 10; ++round) live(heap, sizes, random, 10_000);
  assert.ok(memoryOf(heap) <= 1.1 * first, `${memoryOf(heap)} bytes, ${first} at first`);
});

/** How many runs wait for something to be done. */
function waiting(heap: Heap): number {
  const words = new Uint32Array(heap.memory.buffer);
  let count = 0;
  for (
    let run = words[(heap.state + LAYOUT.STATE_EVENTS) >>> 2]!;
    run;
    run = words[(run + LAYOUT.RUN_EVENT) >>> 2]!
  )
    count += 1;
  return count;
}

/** Blocks of a size on so many pages. */
function fillPages(heap: Heap, size: number, pages: number): number[] {
  return Array.from({ length: (pages * PAGE) / size }, () => heap.malloc(size));
}

/** Frees a block of each run: it waits then. */
function thin(heap: Heap, blocks: readonly number[]): void {
  const { runAt } = pagesOf(heap);
  const seen = new Set<number>();
  for (const block of blocks) {
    const run = runAt(Math.floor(block / PAGE));
    if (!seen.has(run)) heap.free(block);
    seen.add(run);
  }
}

test("a call that finds no slot does not do all that many frees have left, if there are pages", async () => {
  const { heap } = await newHeap();
  heap.free(heap.malloc(MIB));
  thin(heap, fillPages(heap, 1024, 400));
  const before = waiting(heap);
  heap.malloc(300);
  assert.ok(before > 100, `${before} runs wait`);
  assert.ok(waiting(heap) > before - 64, `${waiting(heap)} runs of ${before} still wait`);
});

test("memory does not grow while a bin has free slots, however many runs of others wait", async () => {
  const { heap } = await newHeap();
  const [first, others] = [fillPages(heap, 1024, 400), fillPages(heap, 512, 400)];
  while (pagesOf(heap).free.length > 0) heap.malloc(PAGE);
  thin(heap, first);
  thin(heap, others);
  const bytes = memoryOf(heap);
  for (let block = 0; block < 100; ++block) heap.malloc(1024);
  assert.is(memoryOf(heap), bytes);
});

test("a run that is full again before anyone saw it empty does not hide the free slots of others", async () => {
  const { heap, base } = await newHeap();
  const others = fillPages(heap, 512, 400);
  heap.free(heap.malloc(MIB));
  const [first, second] = [0, 1].map(() => [heap.malloc(1024), heap.malloc(1024)]) as [number[], number[]];
  for (const freed of [first, second]) {
    heap.free(freed[0]!);
    heap.mallinfo();
  }
  heap.free(first[1]!);
  assert.equal([heap.malloc(1024), heap.malloc(1024)], first.toReversed());
  thin(heap, others);
  assert.is(heap.malloc(1024), second[0]);
  checkHeap(heap.memory.buffer, heap.state, { foreign: [[0, base]] });
  heap.mallinfo();
  for (const block of [...first, ...second]) heap.free(block);
  assert.is(heap.mallinfo().bins.find(({ slotSize }) => slotSize === 1024)!.pages, 0);
});

test("what an aligned block leaves serves the next one, wherever its free pages begin", async () => {
  for (const alignment of [2 * PAGE, 16 * PAGE, WASM_PAGE, 4 * WASM_PAGE]) {
    for (const before of [0, 1, 5]) {
      const { heap, base } = await newHeap();
      const hole = heap.page_alloc(before * PAGE || PAGE, 1);
      const blocks = Array.from({ length: 3 }, () => heap.aligned_alloc(alignment, 40 * PAGE));
      for (const block of blocks) heap.free(block);
      heap.free(hole);
      for (let at = 0; at < 3; ++at) blocks[at] = heap.aligned_alloc(alignment, 40 * PAGE);
      const others = [40, 16, 8, 4, 2, 1].flatMap((pages) => {
        const taken: number[] = [];
        while (pagesOf(heap).free.some(({ bytes }) => bytes >= pages * PAGE))
          taken.push(heap.page_alloc(pages * PAGE, 1));
        return taken;
      });
      const bytes = memoryOf(heap);
      const first = blocks[1]!;
      // Freed last, and among others.
      for (const between of [[], others.splice(0, 3)]) {
        for (const block of [first, ...between]) heap.free(block);
        assert.is(
          heap.aligned_alloc(alignment, 40 * PAGE),
          first,
          `${alignment}, after ${between.length} others`,
        );
      }
      assert.is(memoryOf(heap), bytes);
      checkHeap(heap.memory.buffer, heap.state, { foreign: [[0, base]] });
    }
  }
});

test("memory does not grow for the last block while it could move, were an empty run not kept", async () => {
  const { heap } = await newHeap();
  const first = heap.malloc(2 * MIB);
  const slots: number[] = [];
  while (!(slots.at(-1)! > first)) slots.push(heap.malloc(1000));
  const [second, last] = [2 * MIB, 4.5 * MIB, MIB]
    .map((size) => heap.malloc(size))
    .filter((_, at) => at !== 1);
  for (const block of [first, slots.at(-1), second]) heap.free(block!);
  const bytes = memoryOf(heap);
  assert.is.not(heap.realloc(last!, 3.5 * MIB), 0);
  assert.is(memoryOf(heap), bytes);
});

test("a block that grows by realloc leaves memory that others use", async () => {
  const { heap } = await newHeap();
  for (let round = 0; round < 50; ++round) {
    let block = heap.malloc(16);
    for (let size = 16; size < 4 * MIB; size = Math.ceil(size * 1.5)) {
      block = heap.realloc(block, size);
      assert.is.not(block, 0);
      heap.free(heap.malloc(size >>> 1));
    }
    heap.free(block);
  }
  // Where it cannot grow in place, the old block, the new one and the other are there at once.
  assert.ok(memoryOf(heap) < 4 * (1 + 1 / 1.5 + 1 / 2) * MIB * 1.1, `${memoryOf(heap)} bytes`);
});

test.run();
