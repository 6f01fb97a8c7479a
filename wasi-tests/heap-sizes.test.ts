/** Blocks of every size: their alignment, usable size and contents. Also the errors of each function. */
import { test as testStandard } from "uvu";
import * as assert from "uvu/assert";
import { EINVAL, ENOMEM, type Heap } from "../npm/index.ts";
import { WASM_PAGE } from "../npm/webassembly.ts";
import { test } from "./support-builds.ts";
import { PAGE, PTRDIFF_MAX, assertFilled, checkLive, naturalAlignment, newHeap } from "./support-heap.ts";

const bytes = (heap: Heap, at: number, length: number) => new Uint8Array(heap.memory.buffer, at, length);

/** Every size from 0 to 70,000: those of all bins, including both sides of each bin's limit, and some of large blocks. */
const ALL_SIZES = Array.from({ length: 70_001 }, (_, size) => size);
const ODD_SIZES = [0, 1, 3, 4, 5, 8, 9, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, ...aroundPowers(7, 18)];

/** For each power of two: one less, the power itself, and one more. */
function aroundPowers(from: number, to: number): number[] {
  const exponents = Array.from({ length: to - from + 1 }, (_, index) => from + index);
  return exponents.flatMap((exponent) => [2 ** exponent - 1, 2 ** exponent, 2 ** exponent + 1]);
}

function pattern(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, at) => (at * 31 + (at >>> 8) + seed) & 0xff);
}

test("malloc of every size up to 70,000 gives aligned blocks, usable to the last byte, that do not overlap", async (newHeap) => {
  const { heap, base } = await newHeap();
  const blocks: { address: number; usable: number; tag: number }[] = [];
  for (const size of ALL_SIZES) {
    for (let twice = 0; twice < 2; ++twice) {
      const address = heap.malloc(size);
      const usable = heap.malloc_usable_size(address);
      const tag = (2 * size + twice) & 0xff;
      if (address < base || address % naturalAlignment(size) !== 0 || usable < size) {
        assert.unreachable(`malloc(${size}) returned ${address}, a block with ${usable} usable bytes`);
      }
      bytes(heap, address, usable).fill(tag);
      blocks.push({ address, usable, tag });
    }
    if (blocks.length < 16) continue;
    for (const { address, usable, tag } of blocks.splice(size % 8, 8)) {
      assertFilled(heap.memory, address, usable, tag);
      heap.free(address);
    }
  }
  for (const { address } of blocks) heap.free(address);
  checkLive(heap, base, []);
  assert.is(heap.mallinfo().inUse, 0);
});

test("a block's usable size exceeds the size asked for by at most a quarter or a page", async (newHeap) => {
  const { heap } = await newHeap();
  for (const size of ALL_SIZES) {
    const address = heap.malloc(size);
    const spare = heap.malloc_usable_size(address) - size;
    if (spare > Math.max(16, Math.min(size / 4, PAGE)))
      assert.unreachable(`a block of ${size} bytes has ${spare} more usable bytes than asked for`);
    heap.free(address);
  }
});

test("a power of two plus a header of at most a sixteenth of it wastes at most a sixteenth", async (newHeap) => {
  const { heap } = await newHeap();
  for (let power = 1024; power < 16_384; power *= 2) {
    for (const header of [0, 1, 8, power / 32, power / 16]) {
      const spare = heap.malloc_usable_size(heap.malloc(power + header)) - power - header;
      assert.ok(spare <= power / 16, `malloc(${power} + ${header}) wastes ${spare} bytes`);
    }
  }
});

test("an aligned block gets the smallest slot whose size is a multiple of the alignment", async (newHeap) => {
  const { heap } = await newHeap();
  const slots = heap.mallinfo().bins.map(({ slotSize }) => slotSize);
  const largest = slots.at(-1)!;
  for (let alignment = 1; alignment < PAGE; alignment *= 2) {
    const aligned = slots.filter((slot) => slot % alignment === 0);
    for (let size = 0; size <= largest; ++size) {
      const address = heap.aligned_alloc(alignment, size);
      const usable = heap.malloc_usable_size(address);
      if (address % alignment !== 0 || usable !== aligned.find((slot) => slot >= size))
        assert.unreachable(`aligned_alloc(${alignment}, ${size}) returned ${address}, with ${usable} bytes`);
      heap.free(address);
    }
  }
});

test("malloc works for sizes around every power of two, up to 1 GiB", async (newHeap) => {
  const { heap, base } = await newHeap();
  for (const size of aroundPowers(16, 30)) {
    const address = heap.malloc(size);
    assert.is(address % 16, 0);
    assert.ok(heap.malloc_usable_size(address) >= size);
    bytes(heap, address, size)[0] = 1;
    bytes(heap, address, size)[size - 1] = 1;
    heap.free(address);
  }
  assert.is(heap.mallinfo().inUse, 0);
  checkLive(heap, base, []);
});

test("every function that takes an alignment honours each one up to 4 MiB", async (newHeap) => {
  const { heap, base } = await newHeap();
  for (let alignment = 1; alignment <= 2 ** 22; alignment *= 2) {
    for (const size of ODD_SIZES) {
      const result = heap.malloc(4);
      const live = [
        heap.aligned_alloc(alignment, size),
        heap.memalign(alignment, size),
        heap.page_alloc(size, alignment),
      ];
      assert.is(heap.posix_memalign(result, Math.max(alignment, 4), size), 0);
      live.push(new DataView(heap.memory.buffer).getUint32(result, true));
      for (const address of live) {
        const least = Math.max(alignment, naturalAlignment(size));
        if (address < base || address % least !== 0 || heap.malloc_usable_size(address) < size) {
          assert.unreachable(
            `the block at ${address} does not have ${size} bytes at a multiple of ${alignment}`,
          );
        }
      }
      const before = [...live, result].sort((a, b) => a - b);
      before.slice(1).forEach((address, index) => {
        assert.ok(before[index]! + heap.malloc_usable_size(before[index]!) <= address, "blocks overlap");
      });
      heap.page_free(live.splice(2, 1)[0]!);
      for (const address of [...live, result]) heap.free(address);
    }
  }
  checkLive(heap, base, []);
  assert.is(heap.mallinfo().inUse, 0);
});

test("a small block with an alignment of a page or more takes one page", async (newHeap) => {
  const { heap } = await newHeap();
  for (let alignment = PAGE; alignment <= 2 ** 20; alignment *= 2) {
    assert.is(heap.malloc_usable_size(heap.aligned_alloc(alignment, 100)), PAGE);
  }
  assert.is(heap.malloc_usable_size(heap.valloc(100)), PAGE);
});

testStandard("a block in a slot that grows by a few bytes at a time moves seldom", async () => {
  const { heap } = await newHeap();
  let block = heap.malloc(1);
  let moves = 0;
  for (let size = 17; size <= 8192; size += 16) {
    const moved = heap.realloc(block, size);
    if (moved !== block) ++moves;
    block = moved;
  }
  // There are 45 bins on the way, and room for a quarter more skips every other one of them.
  assert.ok(moves < 30, `${moves} moves`);
});

test("realloc takes a slot that just fits when memory is out for one with room to grow", async (newHeap) => {
  const { heap } = await newHeap({ maximum: 3 });
  const block = heap.malloc(64);
  const fitting = heap.malloc(80);
  while (heap.page_alloc(PAGE, 1)) {}
  assert.is(heap.malloc(96), 0);
  const moved = heap.realloc(block, 70);
  assert.is.not(moved, 0);
  assert.is(heap.malloc_usable_size(moved), heap.malloc_usable_size(fitting));
});

test("realloc from any size to any other keeps the contents", async (newHeap) => {
  const { heap, base } = await newHeap();
  for (const from of ODD_SIZES) {
    for (const to of ODD_SIZES) {
      const old = heap.malloc(from);
      bytes(heap, old, from).set(pattern(from, to));
      const moved = heap.realloc(old, to);
      assert.ok(moved % naturalAlignment(to) === 0 && heap.malloc_usable_size(moved) >= to);
      const kept = Math.min(from, to);
      if (Buffer.compare(bytes(heap, moved, kept), pattern(kept, to)) !== 0) {
        assert.unreachable(`realloc from ${from} to ${to} bytes changed the contents`);
      }
      heap.free(moved);
    }
  }
  checkLive(heap, base, []);
});

test("a block keeps its contents while realloc grows it byte by byte to 70,000 and shrinks it again", async (newHeap) => {
  const { heap, base } = await newHeap();
  let block = heap.malloc(0);
  for (const size of ALL_SIZES.slice(1)) {
    block = heap.realloc(block, size);
    bytes(heap, block, size)[size - 1] = size * 7;
    // Checks a sample of the block at each step, and all of it whenever the size is a multiple of 1000.
    for (let at = size % 1000; at < size; at += size % 1000 === 0 ? 1 : 4099) {
      if (bytes(heap, block, size)[at] !== (((at + 1) * 7) & 0xff))
        assert.unreachable(`byte ${at} changed when the block grew to ${size} bytes`);
    }
  }
  for (const size of ALL_SIZES.toReversed()) {
    block = heap.realloc(block, size);
    if (size > 0 && bytes(heap, block, size)[size - 1] !== ((size * 7) & 0xff))
      assert.unreachable(`the last byte changed when the block shrank to ${size} bytes`);
  }
  heap.free(block);
  checkLive(heap, base, []);
});

test("calloc returns zeros, in fresh memory and in memory that was used before", async (newHeap) => {
  const { heap } = await newHeap();
  const sizes = [...ALL_SIZES.slice(0, 2100), ...aroundPowers(11, 20), 70_000, 300_001];
  for (const round of ["fresh", "used", "used in parts"]) {
    const blocks = sizes.map((size) => {
      const block = heap.calloc(1, size);
      const usable = heap.malloc_usable_size(block);
      if (bytes(heap, block, size).some(Boolean))
        assert.unreachable(`calloc of ${size} bytes is not zero (${round} memory)`);
      bytes(heap, block, usable).fill(0xff);
      return block;
    });
    // The second round frees only some of the blocks, so that the third cuts and coalesces free pages differently.
    blocks.filter((_, index) => round === "fresh" || index % 3 > 0).forEach((block) => heap.free(block));
  }
  const product = heap.calloc(1000, 1000);
  assert.ok(heap.malloc_usable_size(product) >= 1_000_000);
});

test("a size of 0 gives a distinct block, from every function", async (newHeap) => {
  const { heap, base } = await newHeap();
  const blocks = [
    heap.malloc(0),
    heap.malloc(0),
    heap.calloc(0, 8),
    heap.calloc(8, 0),
    heap.realloc(0, 0),
    heap.reallocarray(0, 0, 8),
    heap.aligned_alloc(64, 0),
    heap.valloc(0),
    heap.pvalloc(0),
    heap.page_alloc(0, 1),
    heap.realloc(heap.malloc(100), 0),
    heap.realloc(heap.malloc(100_000), 0),
    heap.page_realloc(heap.page_alloc(100_000, 1), 0),
  ];
  assert.is(new Set(blocks).size, blocks.length);
  assert.ok(blocks.every((block) => block !== 0));
  blocks.forEach((block) => heap.free(block));
  checkLive(heap, base, []);
});

test("freeing NULL does nothing, and its usable size is 0", async (newHeap) => {
  const { heap } = await newHeap();
  heap.free(0);
  heap.free_sized(0, 8);
  heap.free_aligned_sized(0, 8, 8);
  heap.page_free(0);
  assert.is(heap.malloc_usable_size(0), 0);
  assert.is(heap.errno, 0);
});

test("sizes above PTRDIFF_MAX and products that overflow give NULL and ENOMEM, and leave the block unchanged", async (newHeap) => {
  for (const started of [false, true]) {
    const { heap } = await newHeap();
    const block = started ? heap.malloc(1000) : 0;
    if (started) bytes(heap, block, 1000).set(pattern(1000, 1));
    const calls: readonly (() => number)[] = [
      ...[PTRDIFF_MAX + 1, 2 ** 32 - PAGE, 2 ** 32 - 16, 2 ** 32 - 1].flatMap((size) => [
        () => heap.malloc(size),
        () => heap.calloc(1, size),
        () => heap.calloc(size, 1),
        () => heap.realloc(block, size),
        () => heap.reallocarray(block, size, 1),
        () => heap.aligned_alloc(16, size),
        () => heap.aligned_alloc(2 ** 20, size),
        () => heap.memalign(32, size),
        () => heap.valloc(size),
        () => heap.pvalloc(size),
        () => heap.page_alloc(size, 1),
        () => heap.page_realloc(0, size),
      ]),
      () => heap.calloc(2 ** 16, 2 ** 16),
      () => heap.calloc(2 ** 31, 2),
      () => heap.calloc(2 ** 32 - 1, 2 ** 32 - 1),
      () => heap.reallocarray(block, 2 ** 16, 2 ** 16),
      () => heap.reallocarray(block, 3, 2 ** 31),
    ];
    for (const call of calls) {
      heap.errno = 0;
      assert.is(call(), 0, String(call));
      assert.is(heap.errno, ENOMEM, String(call));
    }
    assert.is(heap.posix_memalign(block + 996, 16, PTRDIFF_MAX + 1), ENOMEM);
    if (started) assert.equal(new Uint8Array(bytes(heap, block, 1000)), pattern(1000, 1));
  }
});

test("an alignment that is not a power of two gives NULL and EINVAL", async (newHeap) => {
  const { heap } = await newHeap();
  for (const alignment of [0, 3, 6, 12, 24, 100, 65_535, 2 ** 31 + 1, 2 ** 32 - 1]) {
    for (const call of [heap.aligned_alloc, heap.memalign]) {
      heap.errno = 0;
      assert.is(call(alignment, 8), 0);
      assert.is(heap.errno, EINVAL);
    }
    heap.errno = 0;
    assert.is(heap.page_alloc(8, alignment), 0);
    assert.is(heap.errno, EINVAL);
  }
});

test("posix_memalign returns its errors without changing errno or the result", async (newHeap) => {
  const { heap } = await newHeap({ maximum: 4 });
  const result = heap.malloc(4);
  const read = () => new DataView(heap.memory.buffer).getUint32(result, true);
  new DataView(heap.memory.buffer).setUint32(result, 1234, true);
  heap.errno = 5;
  for (const alignment of [0, 1, 2, 3, 6, 12, 1000])
    assert.is(heap.posix_memalign(result, alignment, 8), EINVAL);
  assert.is(heap.posix_memalign(result, 8, 2 ** 20), ENOMEM);
  assert.is(heap.posix_memalign(result, 2 ** 20, 8), ENOMEM);
  assert.is(read(), 1234);
  assert.is(heap.posix_memalign(result, 4, 8), 0);
  assert.is.not(read(), 1234);
  assert.is(heap.errno, 5);
});

test("calls that succeed do not change errno", async (newHeap) => {
  const { heap } = await newHeap();
  heap.errno = 77;
  const block = heap.realloc(heap.calloc(3, 5), 70_000);
  heap.free(heap.aligned_alloc(256, 100));
  heap.free_sized(block, 70_000);
  heap.page_free(heap.page_realloc(heap.page_alloc(1, 1), 100_000));
  heap.mallinfo();
  assert.is(heap.errno, 77);
});

test("valloc aligns to the wasm page, and pvalloc also rounds the size up to it", async (newHeap) => {
  const { heap } = await newHeap();
  for (const size of [1, PAGE, WASM_PAGE - 1, WASM_PAGE, WASM_PAGE + 1]) {
    assert.is(heap.valloc(size) % WASM_PAGE, 0);
    const block = heap.pvalloc(size);
    assert.is(block % WASM_PAGE, 0);
    assert.is(heap.malloc_usable_size(block), Math.ceil(size / WASM_PAGE) * WASM_PAGE);
  }
});

test("page runs have whole pages and are resized in place if there is room, or else moved", async (newHeap) => {
  const { heap } = await newHeap();
  const run = heap.page_alloc(5 * PAGE - 1, 1);
  assert.is(run % PAGE, 0);
  assert.is(heap.malloc_usable_size(run), 5 * PAGE);
  assert.is(heap.page_realloc(run, 2 * PAGE), run);
  assert.is(heap.malloc_usable_size(run), 2 * PAGE);
  assert.is(heap.page_realloc(run, 5 * PAGE), run);
  const behind = heap.page_alloc(1, 1);
  assert.is(behind, run + 5 * PAGE);
  bytes(heap, run, 5 * PAGE).set(pattern(5 * PAGE, 3));
  const moved = heap.page_realloc(run, 6 * PAGE);
  assert.is.not(moved, run);
  assert.equal(new Uint8Array(bytes(heap, moved, 5 * PAGE)), pattern(5 * PAGE, 3));
});

test("mallinfo's numbers agree with the blocks in use and with each other", async (newHeap) => {
  const { heap } = await newHeap();
  const blocks = ODD_SIZES.map((size) => heap.malloc(size));
  const room = blocks.reduce((sum, block) => sum + heap.malloc_usable_size(block), 0);
  const info = heap.mallinfo();
  assert.is(info.free + info.inUse, info.heap);
  assert.ok(info.heap <= heap.memory.buffer.byteLength);
  assert.is(info.inUse, room);
  assert.ok(info.peak >= info.inUse);
  for (const { slotSize, pages, freeSlots } of info.bins) assert.ok(freeSlots * slotSize <= pages * PAGE);

  blocks.forEach((block) => heap.free(block));
  const after = heap.mallinfo();
  assert.equal([after.inUse, after.heap, after.peak], [0, info.heap, info.peak]);
  assert.ok(after.bins.every(({ pages, freeSlots }) => pages === 0 && freeSlots === 0));
});

test.run();
