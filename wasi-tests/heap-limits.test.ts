/** The limits of memory: small maximum sizes, heaps over 2 GiB, and the end of memory at 4 GiB. */
import fc from "fast-check";
import { test as testStandard } from "uvu";
import * as assert from "uvu/assert";
import { ENOMEM, type Heap } from "../npm/index.ts";
import { WASM_PAGE } from "../npm/webassembly.ts";
import { LAYOUT } from "./heap-check.ts";
import { newCompactHeap, test, type NewHeap } from "./support-builds.ts";
import {
  ALL_PAGES,
  PAGE,
  adjacentOfAll,
  assertFilled,
  assertKept,
  calls,
  checkAgainst,
  checkLive,
  emptyModel,
  make,
  newHeap,
  pagesOf,
  release,
  stateWord,
} from "./support-heap.ts";

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const END = 2 ** 32;

test("calls fail with ENOMEM and damage nothing, wherever in a long sequence memory runs out", async (newHeap) => {
  const sequence = fc.sample(calls(), { seed: 20_231, numRuns: 400 });
  const needed = await newHeap();
  const model = emptyModel();
  for (const step of sequence) make(needed.heap, model, step);
  const pages = needed.heap.memory.buffer.byteLength / WASM_PAGE;
  assert.ok(pages > 20, `the sequence needs only ${pages} wasm pages`);

  for (let maximum = 1; maximum < pages; ++maximum) {
    const { heap, base } = await newHeap({ maximum });
    const small = emptyModel();
    for (const step of sequence) make(heap, small, step, true);
    assertKept(heap, small);
    checkAgainst(heap, small, base);
    while (small.blocks.length > 0) release(heap, small, small.blocks.length - 1);
    assert.is(heap.mallinfo().inUse, 0);
    checkAgainst(heap, small, base);
  }
});

/** Allocates blocks of `size` bytes until malloc fails, which must set ENOMEM. */
function fill(heap: Heap, size: number): number[] {
  const blocks: number[] = [];
  for (;;) {
    heap.errno = 0;
    const block = heap.malloc(size);
    if (block === 0) break;
    new Uint8Array(heap.memory.buffer, block, size).fill(blocks.length);
    blocks.push(block);
  }
  assert.is(heap.errno, ENOMEM);
  return blocks;
}

for (const size of [1, 8, 16, 100, 1024, 1025, 5000, 16_384, 16_385, 70_000]) {
  test(`a heap full of blocks of ${size} bytes fails with ENOMEM, and serves again once a block is freed`, async (newHeap) => {
    const { heap, base } = await newHeap({ maximum: 6 });
    let most = 0;
    let pages = 0;
    for (let round = 0; round < 3; ++round) {
      const blocks = fill(heap, size);
      // The number of slots varies a little with the length of their runs: a longer run has less waste.
      most = Math.max(most, blocks.length);
      assert.ok(blocks.length >= 0.99 * most, `${blocks.length} blocks, but ${most} in an earlier round`);
      for (const call of [
        () => heap.malloc(size),
        () => heap.calloc(1, size),
        () => heap.realloc(0, size),
        () => heap.realloc(blocks[0]!, 6 * WASM_PAGE),
        () => heap.reallocarray(blocks[0]!, 6, WASM_PAGE),
        () => heap.aligned_alloc(16, Math.max(size, 9)),
        () => heap.aligned_alloc(4 * WASM_PAGE, size),
        () => heap.pvalloc(6 * WASM_PAGE),
        () => heap.page_alloc(6 * WASM_PAGE, 1),
      ]) {
        heap.errno = 0;
        const block = call();
        // The call may succeed: the last free pages may be enough for another bin.
        if (block === 0) assert.is(heap.errno, ENOMEM);
        else heap.free(block);
      }
      blocks.forEach((block, index) => assertFilled(heap.memory, block, size, index & 0xff));
      checkLive(heap, base, blocks);

      heap.free(blocks[blocks.length >>> 1]!);
      const again = heap.malloc(size);
      assert.is.not(again, 0, "malloc fails although a block of that size was just freed");
      blocks[blocks.length >>> 1] = again;
      blocks.forEach((block) => heap.free(block));
      assert.is(heap.mallinfo().inUse, 0);
      pages ||= heap.mallinfo().heap;
      assert.is(heap.mallinfo().heap, pages, "the heap is not as large as in the first round");
      checkLive(heap, base, []);
    }
  });
}

test("a slot is found in the last free pages, even if they are fewer than its bin usually takes", async (newHeap) => {
  for (const size of [600, 1100, 4200, 5200, 10_300]) {
    const { heap } = await newHeap({ maximum: 4 });
    const first = heap.malloc(size);
    const pages = Math.ceil(heap.malloc_usable_size(first) / PAGE);
    heap.free(first);
    // Adjacent pages are freed, and a slot is allocated there; then they can be had again.
    const freed = adjacentOfAll(() => heap.page_alloc(PAGE, 1), pages);
    for (let round = 0; round < 2; ++round) {
      freed.forEach((page) => heap.free(page));
      const block = heap.malloc(size);
      assert.is.not(block, 0, `${size} bytes do not fit into ${pages} pages`);
      heap.free(block);
      freed.forEach((_, index) => (freed[index] = heap.page_alloc(PAGE, 1)));
      assert.not(freed.includes(0), `the pages of a slot of ${size} bytes are lost`);
    }
  }
});

test("memory filled with blocks of one size and freed serves any other size", async (newHeap) => {
  const { heap } = await newHeap({ maximum: 32 });
  // Compact builds may leave a quarter of a run unused, and need more Runs.
  const least = newHeap === newCompactHeap ? 0.73 : 0.75;
  const sizes = [16, 20_000, 100, 3000, 500_000, 8, 16_384, 1000];
  for (const size of [...sizes, ...sizes.toReversed()]) {
    const blocks = fill(heap, size);
    const bytes = blocks.length * heap.malloc_usable_size(blocks[0]!);
    // Apart from a remainder that is too small for another block.
    assert.ok(bytes + size > least * 32 * WASM_PAGE, `only ${blocks.length} blocks of ${size} bytes fit`);
    blocks.forEach((block) => heap.free(block));
  }
});

test("a bin that has grown to long runs still uses free pages that are scattered in short series", async (newHeap) => {
  // One page in `step` stays in use. The free ones between them are enough for the shortest run of such slots.
  for (const [size, step] of [
    [64, 4],
    [1000, 4],
    [5000, 8],
  ] as const) {
    const { heap } = await newHeap({ maximum: 96 });
    for (let i = 0; i < 2 * MIB; i += size) heap.malloc(size);
    const pages = [];
    for (let page; (page = heap.page_alloc(PAGE, 1)) !== 0;) pages.push(page);
    while (heap.malloc(size) !== 0) continue;
    const freed = pages.filter((page) => (page / PAGE) % step !== 0);
    for (const page of freed) heap.page_free(page);
    const taken = fill(heap, size).length * size;
    const free = freed.length * PAGE;
    assert.ok(taken > free / 2, `blocks of ${size} bytes use only ${taken} of ${free} free bytes`);
  }
});

test("many metadata pages become free at once, however few other Runs are spare", async (newHeap) => {
  const pages = (heap: Heap, bytes: number): number[] => {
    const blocks: number[] = [];
    for (let block; (block = heap.page_alloc(bytes, 1)) !== 0;) blocks.push(block);
    return blocks;
  };
  for (let more = 0; more < 64; more += 9) {
    const { heap, base } = await newHeap({ maximum: 160 });
    const blocks = pages(heap, PAGE);
    // For each metadata page, one block whose Run lies in it is kept: not next to a metadata page or another such block.
    const { runAt, isMetadata, metadataPages } = pagesOf(heap);
    const kept = new Map<number, number>();
    for (const block of blocks) {
      const page = block / PAGE;
      const at = Math.floor(runAt(page) / PAGE);
      const isNear = [...kept.values()].some((other) => Math.abs(other - block) < 3 * PAGE);
      if (!kept.has(at) && !isNear && !isMetadata(page - 1) && !isMetadata(page + 1)) kept.set(at, block);
    }
    const last = new Set(kept.values());
    for (const block of blocks) if (!last.has(block)) heap.page_free(block);
    // No series of free pages is as long, so this fails, but it handles all events: the Runs of the freed blocks are now
    // the first spare ones. Then all memory is allocated again.
    assert.is(heap.page_alloc((blocks.length - last.size - 2) * PAGE, 1), 0);
    const live = Array.from({ length: more }, () => heap.page_alloc(PAGE, 1));
    for (const { bytes } of pagesOf(heap).free) live.push(heap.page_alloc(bytes, 1));
    live.push(...pages(heap, PAGE));
    for (const block of last) heap.page_free(block);
    live.push(...pages(heap, 2 * PAGE));
    assert.ok(
      pagesOf(heap).metadataPages.length < metadataPages.length / 2,
      `${pagesOf(heap).metadataPages.length} of ${metadataPages.length} metadata pages are left`,
    );
    live.push(...pages(heap, PAGE));
    const inUse = live.filter((address) => address !== 0);
    checkLive(heap, base, inUse);
  }
});

test("the memory of the first page map becomes free when the map moves, wherever the heap starts", async (newHeap) => {
  for (let offset = 0; offset < PAGE; offset += 112) {
    const memory = new WebAssembly.Memory({ initial: 2 });
    const { heap, base } = await newHeap({ memory, heapBase: WASM_PAGE + offset });
    const map = () => stateWord(heap, LAYOUT.STATE_MAP);
    const block = heap.malloc(100);
    const first = map();
    heap.free(heap.malloc(4 * MIB));
    assert.is.not(map(), first);
    checkLive(heap, base, [block]);
  }
});

/** Makes a heap without a free page or a spare Run: full of what `first` allocates, and of large blocks. */
async function fullHeap<T>(
  newHeap: NewHeap,
  first: (heap: Heap) => T,
): Promise<{ heap: Heap; left: T; large: number[] }> {
  for (let twos = 0; ; ++twos) {
    assert.ok(twos < 70, "no number of two-page blocks leaves the heap without a spare Run");
    const { heap } = await newHeap({ initial: 6, maximum: 6 });
    const left = first(heap);
    const large = Array.from({ length: twos }, () => heap.page_alloc(2 * PAGE, 1));
    for (let block; (block = heap.page_alloc(PAGE, 1)) !== 0;) large.push(block);
    if (pagesOf(heap).free.length === 0 && !hasSpareRun(heap)) return { heap, left, large };
  }
}

/** Returns whether there is a metadata page with a spare Run. */
function hasSpareRun(heap: Heap): boolean {
  const ring = LAYOUT.METADATA_PAGES;
  return stateWord(heap, ring) !== heap.state + ring - LAYOUT.RUN_NEXT;
}

test("an aligned block that fits exactly finds its place although there is no spare Run", async (newHeap) => {
  const endingWith = (heap: Heap, odd: number): number => {
    const block = heap.page_alloc(4 * PAGE, 1);
    if ((block / PAGE + 3) % 2 === odd) return block;
    heap.page_alloc(PAGE, 1);
    return endingWith(heap, odd);
  };
  const { heap, left } = await fullHeap(newHeap, (heap) => [endingWith(heap, 1), endingWith(heap, 0)]);
  // Two single pages become free, the lower one odd, and no Run does: the lower one has to become Runs.
  for (const block of left) assert.is(heap.page_realloc(block, 3 * PAGE), block);
  const [lower, upper] = left.map((block) => block / PAGE + 3);
  assert.is(heap.page_alloc(PAGE, 2 * PAGE), upper! * PAGE);
  assert.ok(pagesOf(heap).isMetadata(lower!));
  assert.equal(pagesOf(heap).free, []);
});

/** Allocates slots until they lie in `runs` different runs. Returns one slot of each run. */
function slotOfEach(heap: Heap, size: number, runs: number): number[] {
  const slots = new Map<number, number>();
  for (let slot; slots.size < runs; slots.set(pagesOf(heap).runAt(Math.floor(slot / PAGE)), slot))
    slot = heap.malloc(size);
  return [...slots.values()];
}

test("memory grows for an aligned block by no more than it needs", async (newHeap) => {
  for (const alignment of [4096, 16_384, WASM_PAGE, 4 * WASM_PAGE]) {
    const { heap } = await newHeap({ maximum: (2 * alignment) / WASM_PAGE + 2 });
    while (heap.memory.buffer.byteLength < alignment) heap.memory.grow(1);
    heap.malloc(1);
    const end = Math.ceil(heap.memory.buffer.byteLength / alignment) * alignment + alignment;
    assert.is.not(heap.aligned_alloc(alignment, alignment), 0);
    assert.ok(heap.memory.buffer.byteLength <= Math.ceil(end / WASM_PAGE) * WASM_PAGE);
  }
});

test("the page map covers the memory that an aligned block makes the heap grow by, however large the alignment", async (newHeap) => {
  for (let alignment = WASM_PAGE; alignment <= 512 * MIB; alignment *= 2) {
    for (const earlier of [0, 300_000]) {
      const { heap, base } = await newHeap();
      const live = [heap.malloc(earlier), heap.aligned_alloc(alignment, 70_000), heap.malloc(100)];
      assert.ok(live.every((block) => block > 0));
      checkLive(heap, base, live);
    }
  }
});

test("an aligned block lies in the heap, whatever the program wrote behind the page map", async (newHeap) => {
  for (let alignment = PAGE; alignment <= 2 * GIB; alignment *= 2) {
    for (const size of [100, MIB, 4 * MIB]) {
      const { heap, base } = await newHeap({ maximum: 300 });
      const live = [size, ...Array.from({ length: 8 }, () => 30_000)].map((size) => {
        const block = heap.malloc(size);
        new Uint8Array(heap.memory.buffer, block, size).fill(0xff);
        return block;
      });
      const block = heap.aligned_alloc(alignment, 5000);
      assert.is(block % alignment, 0);
      if (block === 0) assert.is(heap.errno, ENOMEM);
      else live.push(block);
      checkLive(heap, base, live);
    }
  }
});

test("malloc does not fail while freed blocks wait on the list of events", async (newHeap) => {
  const { heap, left, large } = await fullHeap(newHeap, (heap) => slotOfEach(heap, 1024, 24));
  for (const block of [...large, ...left]) heap.free(block);
  assert.is.not(heap.malloc(20_000), 0);
});

test("malloc finds a slot freed before many others, though the only free page becomes a metadata page meanwhile", async (newHeap) => {
  const { heap, left } = await fullHeap(newHeap, (heap) => {
    const [slot] = [heap.malloc(1024), heap.malloc(1024)];
    const others = [400, 512, 640].flatMap((size) => slotOfEach(heap, size, 16));
    // Another block in each last run, so that freeing one does not empty the run.
    for (const size of [400, 512, 640]) heap.malloc(size);
    return { slot: slot!, others, large: heap.page_alloc(2 * PAGE, 1) };
  });
  heap.page_realloc(left.large, PAGE);
  for (const block of [left.slot, ...left.others]) heap.free(block);
  assert.is(heap.malloc(1024), left.slot);
});

test("malloc does not fail while bins keep empty runs", async (newHeap) => {
  const { heap } = await fullHeap(newHeap, (heap) => {
    const sizes = [1024, 2048, 4096, 8192, 16_384];
    const blocks = sizes.flatMap((size) => Array.from({ length: 4 }, () => heap.malloc(size)));
    for (const block of blocks) heap.free(block);
    heap.mallinfo();
  });
  const { free } = heap.mallinfo();
  assert.is(
    heap.malloc(64) === 0,
    free === 0,
    `malloc must fail exactly if nothing is free; ${free} bytes are`,
  );
});

test("a new metadata page is not cut from the only free pages that are enough for a block", async (newHeap) => {
  const { heap, left } = await fullHeap(newHeap, (heap) => {
    const lengths = [20, 20, 20, 40, 2].flatMap((pages) => [pages, 1]);
    return lengths.map((pages) => heap.page_alloc(pages * PAGE, 1)).filter((_, index) => index % 2 === 0);
  });
  for (const block of left) heap.free(block);
  heap.mallinfo();
  // These blocks take every Run that became spare, and all free pages below the 40.
  for (const pages of [10, 10, 10, 10, 20]) assert.is.not(heap.page_alloc(pages * PAGE, 1), 0);
  assert.is(heap.page_alloc(40 * PAGE, 1), left[3]);
});

test("malloc takes a bin's short run if a long one would leave no page for its Run", async (newHeap) => {
  let tried = 0;
  for (let runs = 0; runs < 80; ++runs) {
    const { heap } = await newHeap({ maximum: 6 });
    // The bin's runs have two pages from now on.
    for (let i = 0; i < 40; ++i) heap.malloc(1024);
    const block = heap.page_alloc(3 * PAGE, 1);
    for (let i = 0; i < runs; ++i) heap.page_alloc(2 * PAGE, 1);
    while (heap.page_alloc(PAGE, 1) !== 0);
    if (pagesOf(heap).free.length > 0 || hasSpareRun(heap)) continue;
    tried += 1;
    while (heap.malloc(1024) !== 0);
    heap.page_realloc(block, PAGE);
    assert.equal(
      pagesOf(heap).free.map(({ bytes }) => bytes),
      [2 * PAGE],
    );
    assert.is.not(heap.malloc(1024), 0);
  }
  assert.ok(tried > 0);
});

test("realloc to a smaller size returns the same block and leaves errno alone when no smaller block is free", async (newHeap) => {
  const { heap } = await newHeap({ maximum: 4 });
  const block = heap.malloc(5000);
  for (const size of [70_000, 4000, 64]) fill(heap, size);
  heap.errno = 0;
  assert.is(heap.realloc(block, 64), block);
  assert.is(heap.errno, 0);
});

test("malloc that fails because memory is out fails again when it is repeated", async (newHeap) => {
  let failures = 0;
  for (let before = 0; before < 140; before += 2) {
    for (const pages of [17, 20, 24, 28]) {
      const { heap } = await newHeap({ maximum: 5 });
      for (let i = 0; i < before; ++i) heap.page_alloc(PAGE, 1);
      if (heap.malloc(pages * PAGE) !== 0) continue;
      assert.is(heap.malloc(pages * PAGE), 0, `${pages} pages after ${before}`);
      failures += 1;
    }
  }
  assert.ok(failures > 10, `${failures} calls failed`);
});

test("page_alloc that fails when memory is out fails again, also when it needs a Run", async (newHeap) => {
  for (let twos = 0; twos < 80; ++twos) {
    const { heap } = await newHeap({ maximum: 5 });
    for (let i = 0; i < twos; ++i) heap.page_alloc(2 * PAGE, 1);
    while (heap.page_alloc(PAGE, 1) !== 0);
    assert.is(heap.page_alloc(PAGE, 1), 0, `after ${twos} blocks of two pages`);
  }
});

test("requests that are too large for memory fail without growing it", async (newHeap) => {
  const maximum = 256;
  const { heap, base } = await newHeap({ maximum });
  const block = heap.malloc(100);
  const before = heap.memory.buffer.byteLength;
  for (let size = maximum * WASM_PAGE; size < 2 ** 31; size *= 2) {
    heap.errno = 0;
    for (const answer of [heap.malloc(size), heap.realloc(block, size), heap.page_alloc(size, 1)])
      assert.is(answer, 0);
    assert.is(heap.errno, ENOMEM);
    assert.is(
      heap.memory.buffer.byteLength,
      before,
      `memory grew for a request of ${size} bytes that failed`,
    );
  }
  checkLive(heap, base, [block]);
  assert.ok(fill(heap, MIB).length >= (maximum * WASM_PAGE) / MIB - 2);
});

test("a request fails without growing memory if there is room for the block but not for the larger page map", async (newHeap) => {
  for (const maximum of [60, 100]) {
    for (let less = 0; less < 64; ++less) {
      const { heap } = await newHeap({ maximum });
      // Leaves free pages at the heap's end, where the map may go too.
      heap.free(heap.malloc(8 * WASM_PAGE));
      heap.mallinfo();
      const before = heap.memory.buffer.byteLength;
      const block = heap.malloc(maximum * WASM_PAGE - less * PAGE);
      assert.is(
        block === 0,
        heap.memory.buffer.byteLength === before,
        `malloc of ${less} pages less than ${maximum} wasm pages must grow memory exactly if it succeeds`,
      );
    }
  }
});

test("malloc fails with ENOMEM if a memory that is 4 GiB from the start has no room for a block", async (newHeap) => {
  const memory = new WebAssembly.Memory({ initial: ALL_PAGES, maximum: ALL_PAGES });
  const { heap } = await newHeap({ memory, heapBase: MIB });
  for (let i = 0; i < 7; ++i) assert.is.not(heap.malloc(500 * MIB), 0);
  assert.is(heap.malloc(GIB), 0);
  assert.is(heap.errno, ENOMEM);
});

testStandard(
  "realloc grows the last block until memory ends at 4 GiB, though the page map must move elsewhere",
  async () => {
    const { heap } = await newHeap();
    for (let i = 0; i < 3; ++i) heap.malloc(1000 * MIB);
    const hole = heap.malloc(20 * MIB);
    const left = (): number => 4 * GIB - heap.memory.buffer.byteLength;
    while (left() > 300 * MIB) heap.malloc(100 * MIB);
    heap.malloc(PAGE);
    let block = heap.malloc(MIB);
    heap.free(hole);
    for (let size = MIB; block !== 0; block = heap.realloc(block, size))
      size += Math.max(WASM_PAGE, Math.floor(left() / 2 / WASM_PAGE) * WASM_PAGE);
    assert.is(heap.errno, ENOMEM);
    assert.ok(left() <= WASM_PAGE, `memory ends ${left()} bytes below 4 GiB`);
  },
);

test("a heap in a memory that cannot grow uses the memory behind heapBase", async (newHeap) => {
  const memory = new WebAssembly.Memory({ initial: 8, maximum: 8 });
  const { heap } = await newHeap({ memory, heapBase: 3 * WASM_PAGE + 100 });
  const block = heap.malloc(4 * WASM_PAGE);
  assert.ok(block > 3 * WASM_PAGE && block + 4 * WASM_PAGE <= 8 * WASM_PAGE);
  assert.is(heap.malloc(WASM_PAGE), 0);
  assert.is(heap.errno, ENOMEM);
  heap.free(block);
  assert.is.not(heap.malloc(WASM_PAGE), 0);
});

test("blocks of every kind work above 2 GiB", async (newHeap) => {
  const { heap, base } = await newHeap();
  const huge = Array.from({ length: 9 }, () => heap.malloc(256 * MIB));
  assert.ok(huge.every((block) => block > 0) && huge[8]! > 2 * GIB);

  // First, use up what is free below 2 GiB.
  for (const size of [16 * MIB, MIB, 16 * PAGE, PAGE]) {
    for (let block = 0; block < 2 * GIB;) huge.push((block = heap.page_alloc(size, 1)));
  }

  const model = emptyModel();
  const sequence = fc.sample(calls(), { seed: 4, numRuns: 150 });
  for (const step of sequence) make(heap, model, step);
  assertKept(heap, model);
  const above = model.blocks.filter(({ address }) => address > 2 * GIB);
  assert.ok(above.length > 100, `only ${above.length} blocks lie above 2 GiB`);
  const live = [...model.blocks.map(({ address }) => address), ...huge];
  checkLive(heap, base, live, model.foreign);

  const view = () => new Uint8Array(heap.memory.buffer);
  view()[huge[8]! + 256 * MIB - 1] = 77;
  for (const block of huge) heap.free(block);
  while (model.blocks.length > 0) release(heap, model, model.blocks.length - 1);
  assert.is(heap.mallinfo().inUse, 0);
  checkAgainst(heap, model, base);
  // The free pages have coalesced: a block of 1 GiB fits where the nine blocks were.
  const end = heap.memory.buffer.byteLength;
  assert.ok(heap.malloc(GIB) > 0);
  assert.is(heap.memory.buffer.byteLength, end);
});

test("a huge block can be freed and followed by a larger one", async (newHeap) => {
  for (const size of [20 * MIB, 200 * MIB, GIB]) {
    const { heap, base } = await newHeap();
    const first = heap.malloc(size);
    heap.free(first);
    const second = heap.malloc(size + 3 * MIB);
    assert.ok(first > 0 && second > 0);
    checkLive(heap, base, [second]);
    heap.free(second);
    assert.is(heap.mallinfo().inUse, 0);
    checkLive(heap, base, []);
  }
});

/** Allocates the largest blocks that fit, halving the size whenever one does not. Returns them with their sizes. */
function fillWithHuge(heap: Heap): [number, number][] {
  const blocks: [number, number][] = [];
  for (let size = GIB; size >= PAGE;) {
    const block = heap.page_alloc(size, 1);
    if (block === 0) size /= 2;
    else blocks.push([block, size]);
  }
  return blocks;
}

test("a heap uses memory up to the last page below 4 GiB, which stays unused, and no block wraps", async (newHeap) => {
  const { heap, base } = await newHeap();
  const blocks = fillWithHuge(heap);
  assert.is(heap.errno, ENOMEM);
  const bytes = blocks.reduce((sum, [, size]) => sum + size, 0);
  assert.ok(bytes > 0.99 * END, `${END - bytes} bytes of 4 GiB are not in blocks`);
  const last = Math.max(...blocks.map(([block, size]) => block + size));
  assert.ok(
    last <= END - PAGE && last > END - 3 * WASM_PAGE,
    `the last block ends ${END - last} bytes below 4 GiB`,
  );
  const live = blocks.map(([address]) => address);
  checkLive(heap, base, live);

  const view = new Uint8Array(heap.memory.buffer);
  for (const [block, size] of blocks) view[block + size - 1] = view[block] = 5;
  const [end, size] = blocks.find(([block, length]) => block + length === last)!;
  assert.is(heap.malloc(8), 0);
  assert.is(heap.page_realloc(end, 2 * size), 0);
  heap.page_free(end);
  const small = heap.calloc(1, 100);
  assert.ok(small > 0);
  assertFilled(heap.memory, small, 100, 0);
  heap.free(small);
  for (const [block] of blocks) if (block !== end) heap.page_free(block);
  assert.is(heap.mallinfo().inUse, 0);
  checkLive(heap, base, []);
});

test("realloc grows a block near 4 GiB as long as memory lasts", async (newHeap) => {
  const { heap } = await newHeap();
  const before = [heap.malloc(GIB), heap.malloc(GIB), heap.malloc(GIB)];
  // First, use up the room that old page maps have left below.
  let block = heap.malloc(MIB);
  while (block > 0 && block < 3 * GIB) block = heap.malloc(MIB);
  assert.ok(before.every(Boolean) && block > 3 * GIB);
  new Uint8Array(heap.memory.buffer, block, MIB).fill(9);
  for (const size of [300, 600]) {
    block = heap.realloc(block, size * MIB);
    assert.ok(block > 0, `realloc to ${size} MiB fails`);
    assertFilled(heap.memory, block, MIB, 9);
  }
  assert.is(heap.realloc(block, GIB), 0);
  assertFilled(heap.memory, block, MIB, 9);
  assert.is(heap.realloc(block, MIB), block);
});

test("one block can span free pages at the heap's end and the memory left below 4 GiB", async (newHeap) => {
  const { heap } = await newHeap();
  const before = [heap.malloc(GIB), heap.malloc(GIB), heap.malloc(GIB)];
  const block = heap.malloc(600 * MIB);
  assert.ok(before.every(Boolean) && block > 3 * GIB);
  heap.free(block);
  assert.ok(heap.malloc(950 * MIB) > 0);
});

for (const distance of [1, 2, 5, 16, 100, 200, 1000]) {
  test(`a heap that starts ${distance} wasm pages below 4 GiB allocates only between there and 4 GiB`, async (newHeap) => {
    const memory = new WebAssembly.Memory({ initial: ALL_PAGES });
    const heapBase = END - distance * WASM_PAGE;
    const { heap } = await newHeap({ memory, heapBase });
    for (const size of [8, 5000, 40_000, 200_000, 30 * MIB]) {
      const block = heap.malloc(size);
      // The page map reaches from address 0, so it takes more than 8 MiB.
      if (size + 9 * MIB < distance * WASM_PAGE) assert.is.not(block, 0, `${size} bytes`);
      if (block === 0) assert.is(heap.errno, ENOMEM);
      else assert.ok(block > heapBase && block + size <= END - PAGE, `${size} bytes at ${block}`);
    }
  });
}

for (const initial of [54_776, 59_844, 64_882]) {
  test(`a heap that starts behind ${initial} wasm pages of others never hands out these`, async (newHeap) => {
    const memory = new WebAssembly.Memory({ initial, maximum: ALL_PAGES });
    const { heap, base } = await newHeap({ memory });
    const live = Array.from({ length: 1000 }, () => heap.page_alloc(PAGE, 1));
    for (const block of live) assert.ok(block > heap.state, `a block was allocated at ${block}`);
    checkLive(heap, base, live);
  });
}

testStandard("calloc does not write to fresh memory, so it takes no physical memory", async () => {
  const { heap } = await newHeap();
  const before = process.memoryUsage.rss();
  const block = heap.calloc(1, GIB);
  assert.ok(process.memoryUsage.rss() - before < 100 * MIB);
  assertFilled(heap.memory, block, 64, 0);
});

test("malloc fails if others have left only as much below 4 GiB as the larger page map needs", async (newHeap) => {
  const { heap, base } = await newHeap({ maximum: ALL_PAGES });
  const first = heap.malloc(100);
  const map = (4 * END) / PAGE / WASM_PAGE;
  const start = heap.memory.buffer.byteLength;
  heap.memory.grow(ALL_PAGES - map - start / WASM_PAGE);
  assert.is(heap.malloc(MIB), 0);
  const second = heap.malloc(100);
  assert.is.not(second, 0);
  checkLive(heap, base, [first, second], [[start, END]]);
});

test.run();
