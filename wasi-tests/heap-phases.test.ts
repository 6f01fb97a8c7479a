/** Memory over time: the next phase of a program reuses what the last one freed. */
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import type { RandomGenerator } from "pure-rand/types/RandomGenerator";
import { test as testStandard } from "uvu";
import * as assert from "uvu/assert";
import type { Heap } from "../npm/index.ts";
import { WASM_PAGE } from "../npm/webassembly.ts";
import { LAYOUT, checkHeap } from "./heap-check.ts";
import { test, type NewHeap } from "./support-builds.ts";
import { PAGE, checkLive, newHeap, pagesOf, stateWord } from "./support-heap.ts";

const MIB = 2 ** 20;

interface Phase {
  readonly from: number;
  readonly to: number;
  /** Bytes in use at the phase's peak, by the sizes asked for. */
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

/** Allocates up to the phase's peak, replaces random blocks by new ones, and frees all. */
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

/** Bytes of memory after `rounds` repetitions of the phase in a new heap. */
async function aloneIn(newHeap: NewHeap, phase: Phase, rounds = 1): Promise<number> {
  const { heap } = await newHeap();
  const random = xoroshiro128plus(1);
  for (let round = 0; round < rounds; ++round) live(heap, phase, random);
  return memoryOf(heap);
}

test("a long run of phases needs at most a quarter more memory than its largest phase alone", async (newHeap) => {
  const alone: number[] = [];
  for (const phase of PHASES) alone.push(await aloneIn(newHeap, phase, ROUNDS));
  const largest = Math.max(...alone);
  const { heap, base } = await newHeap();
  const random = xoroshiro128plus(2);
  for (let round = 0; round < ROUNDS; ++round) {
    for (const phase of PHASES) live(heap, phase, random);
  }
  const used = memoryOf(heap);
  assert.ok(used <= 1.25 * largest, `${used} bytes are needed, but ${largest} for the largest phase alone`);
  assert.is(heap.mallinfo().inUse, 0);
  checkLive(heap, base, []);
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
  test(`${second}-byte blocks after ${first}-byte ones take at most a tenth more memory than the larger phase alone`, async (newHeap) => {
    const [one, other] = [first!, second!].map((size) => ({ from: size, to: size, bytes: 8 * MIB })) as [
      Phase,
      Phase,
    ];
    const alone = await Promise.all([aloneIn(newHeap, one), aloneIn(newHeap, other)]);
    const { heap } = await newHeap();
    const random = xoroshiro128plus(3);
    live(heap, one, random);
    live(heap, other, random);
    const used = memoryOf(heap);
    const needed = Math.max(...alone);
    assert.ok(
      used <= 1.1 * needed + WASM_PAGE,
      `${used} bytes are needed, but ${needed} for the larger phase alone`,
    );
  });
}

testStandard("a block nearly as large as many freed blocks together takes their place", async () => {
  for (const size of [1000, 16_384, 100_000, MIB, 3 * MIB]) {
    const { heap } = await newHeap();
    const blocks = Array.from({ length: Math.ceil((48 * MIB) / size) }, () => heap.malloc(size));
    const before = memoryOf(heap);
    for (const block of blocks) heap.free(block);
    assert.is.not(heap.malloc(44 * MIB), 0);
    const grown = memoryOf(heap) - before;
    assert.ok(grown <= 5 * MIB, `memory grew by ${grown} bytes after blocks of ${size} bytes were freed`);
  }
});

/** Returns the number of free pages, after mallinfo has handled all events. */
function freePages(heap: Heap): number {
  heap.mallinfo();
  return pagesOf(heap).free.reduce((sum, { bytes }) => sum + bytes / PAGE, 0);
}

test("a metadata page becomes free once none of its Runs is in use, except the first", async (newHeap) => {
  const { heap } = await newHeap();
  const metadataPages = (): number => pagesOf(heap).metadataPages.length;
  const blocks = Array.from({ length: 1000 }, () => heap.malloc(20_000));
  assert.ok(metadataPages() > 10);
  for (const block of blocks) heap.free(block);
  heap.mallinfo();
  assert.is(metadataPages(), 1);
});

test("a run of slots larger than 8 KiB becomes free when it is empty, even if some were never used", async (newHeap) => {
  const { heap } = await newHeap();
  heap.free(heap.page_alloc(MIB, 1));
  const before = freePages(heap);
  const blocks = LAYOUT.SLOT_SIZES.filter((size) => size > 8192).map((size) => heap.malloc(size));
  assert.is.not(freePages(heap), before);
  for (const block of blocks) heap.free(block);
  assert.is(freePages(heap), before);
});

test("a bin's short run takes the lowest free pages, though a shorter series lies further on", async (newHeap) => {
  const { heap } = await newHeap();
  const [low, , high] = [100, 1, 20, 1].map((pages) => heap.page_alloc(pages * PAGE, 1));
  heap.free(low!);
  heap.free(high!);
  heap.mallinfo();
  const slot = heap.malloc(100);
  assert.ok(
    slot >= low! && slot < low! + 100 * PAGE,
    `the slot at ${slot} is not in the 100 free pages at ${low}`,
  );
});

test("page_alloc takes the lowest series of free pages that is long enough, wherever it begins and ends", async (newHeap) => {
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
    if (lowest) assert.is(block, lowest.address, `page_alloc of ${pages} pages in call ${i}`);
    blocks.push(block);
  }
});

test("one block of every bin's size takes at most a quarter more pages than the blocks themselves need", async (newHeap) => {
  const { heap } = await newHeap();
  const sizes = heap.mallinfo().bins.map(({ slotSize }) => slotSize);
  for (const size of sizes) heap.malloc(size);
  const least = sizes.reduce((sum, size) => sum + Math.ceil(size / PAGE) * PAGE, 0);
  const { peak } = heap.mallinfo();
  assert.ok(
    peak <= 1.25 * least,
    `${sizes.length} blocks take pages of ${peak} bytes, but need only ${least}`,
  );
});

testStandard("a bin with many blocks gets longer runs, even when memory must grow for them", async () => {
  for (const size of [16, 640, 16_384]) {
    const { heap } = await newHeap();
    const blocks = Array.from({ length: (8 * MIB) / size }, () => heap.malloc(size));
    const { runAt } = pagesOf(heap);
    const runs = new Set(blocks.map((block) => runAt(Math.floor(block / PAGE))));
    const least = (8 * MIB) / Math.ceil(size / PAGE) / PAGE;
    assert.ok(
      runs.size < least / 2,
      `slots of ${size} bytes lie in ${runs.size} runs, which should be fewer than ${least / 2}`,
    );
  }
});

for (const size of [640, 768, 896]) {
  testStandard(`many blocks of ${size} bytes leave almost nothing over in their runs`, async () => {
    const { heap } = await newHeap();
    const count = 4096;
    const pages = new Set<number>();
    for (let block = 0; block < count; ++block) {
      const start = heap.malloc(size);
      pages.add(Math.floor(start / PAGE)).add(Math.floor((start + size - 1) / PAGE));
    }
    assert.ok(pages.size <= (1.02 * count * size) / PAGE, `${count} blocks lie in ${pages.size} pages`);
  });
}

test("replacing blocks for a long time at a constant load needs at most a tenth more memory than at first", async (newHeap) => {
  const { heap } = await newHeap();
  const random = xoroshiro128plus(4);
  const sizes = { from: 1, to: 4000, bytes: 4 * MIB };
  live(heap, sizes, random, 10_000);
  const first = memoryOf(heap);
  for (let round = 0; round < 10; ++round) live(heap, sizes, random, 10_000);
  assert.ok(memoryOf(heap) <= 1.1 * first, `memory has ${memoryOf(heap)} bytes, but had ${first} at first`);
});

/** The number of runs on the list of events. */
function waiting(heap: Heap): number {
  const words = new Uint32Array(heap.memory.buffer);
  let count = 0;
  for (let run = stateWord(heap, LAYOUT.STATE_EVENTS); run; run = words[(run + LAYOUT.RUN_EVENT) >>> 2]!)
    count += 1;
  return count;
}

/** Allocates blocks of `size` bytes, as many as fill `pages` pages. */
function fillPages(heap: Heap, size: number, pages: number): number[] {
  return Array.from({ length: (pages * PAGE) / size }, () => heap.malloc(size));
}

/** Frees one block of each run, so that the run has an event. */
function thin(heap: Heap, blocks: readonly number[]): void {
  const { runAt } = pagesOf(heap);
  const seen = new Set<number>();
  for (const block of blocks) {
    const run = runAt(Math.floor(block / PAGE));
    if (!seen.has(run)) heap.free(block);
    seen.add(run);
  }
}

testStandard(
  "a call for a slot handles only some of many waiting events if there are free pages",
  async () => {
    const { heap } = await newHeap();
    heap.free(heap.malloc(MIB));
    thin(heap, fillPages(heap, 1024, 400));
    const before = waiting(heap);
    heap.malloc(300);
    assert.ok(before > 100, `only ${before} runs have events`);
    assert.ok(waiting(heap) > before - 64, `only ${waiting(heap)} of ${before} events still wait`);
  },
);

test("memory does not grow while the bin has free slots, however many runs of other bins have events", async (newHeap) => {
  const { heap } = await newHeap();
  const [first, others] = [fillPages(heap, 1024, 400), fillPages(heap, 512, 400)];
  while (pagesOf(heap).free.length > 0) heap.malloc(PAGE);
  thin(heap, first);
  thin(heap, others);
  const bytes = memoryOf(heap);
  for (let block = 0; block < 100; ++block) heap.malloc(1024);
  assert.is(memoryOf(heap), bytes);
});

testStandard(
  "a run that becomes empty and full again before its event is handled does not hide other runs' free slots",
  async () => {
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
  },
);

test("an aligned block reuses the pages of a freed one, wherever its free pages begin", async (newHeap) => {
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
      // The block is freed alone, and then before three others.
      for (const between of [[], others.splice(0, 3)]) {
        for (const block of [first, ...between]) heap.free(block);
        assert.is(
          heap.aligned_alloc(alignment, 40 * PAGE),
          first,
          `alignment ${alignment}, with ${between.length} other blocks freed after it`,
        );
      }
      assert.is(memoryOf(heap), bytes);
      checkHeap(heap.memory.buffer, heap.state, { foreign: [[0, base]] });
    }
  }
});

test("realloc frees an empty run and moves the last block rather than grow memory", async (newHeap) => {
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

test("blocks that grow by realloc leave memory that other blocks reuse", async (newHeap) => {
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
  // If the block cannot grow in place, three blocks exist at once: the old one, the new one and the other.
  assert.ok(
    memoryOf(heap) < 4 * (1 + 1 / 1.5 + 1 / 2) * MIB * 1.1,
    `memory has grown to ${memoryOf(heap)} bytes`,
  );
});

test.run();
