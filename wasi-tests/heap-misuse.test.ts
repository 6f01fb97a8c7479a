/**
 * Freeing an invalid pointer traps: in the standard build at the next slow call, in a compact one at once. And the tests'
 * checker reports damage to a heap.
 */
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Heap } from "../npm/index.ts";
import { WASM_PAGE } from "../npm/webassembly.ts";
import { LAYOUT } from "./heap-check.ts";
import { newCompactHeap } from "./support-builds.ts";
import { PAGE, checkLive, newHeap, stateWord } from "./support-heap.ts";

const words = (heap: Heap) => new Uint32Array(heap.memory.buffer);

function assertTraps(call: () => unknown, message?: string): void {
  assert.throws(call, (error: unknown) => error instanceof WebAssembly.RuntimeError, message);
}

/** Addresses where no block starts. */
const WRONG: Readonly<Record<string, (heap: Heap) => number>> = {
  "the program's data": () => 64,
  "the page map": (heap) => stateWord(heap, LAYOUT.STATE_MAP),
  "a Run": (heap) => runOf(heap, heap.malloc(100)),
  "memory that others took": (heap) => heap.memory.grow(1) * WASM_PAGE,
  "the second page of a large block": (heap) => heap.malloc(10 * PAGE) + PAGE,
  "the last page of a large block": (heap) => heap.malloc(10 * PAGE) + 9 * PAGE,
  "the second page of a slot that is alone in its run": (heap) => heap.malloc(8 * PAGE) + PAGE,
  "a large block that was freed and whose pages are free": (heap) => {
    const block = heap.malloc(10 * PAGE);
    heap.malloc(10 * PAGE);
    heap.free(block);
    heap.malloc(20 * PAGE);
    return block;
  },
};

for (const [where, address] of Object.entries(WRONG)) {
  test(`freeing ${where} traps at the next slow call`, async () => {
    for (const slow of [
      (heap: Heap) => heap.malloc(50 * PAGE),
      (heap: Heap) => heap.mallinfo(),
      (heap: Heap) => heap.realloc(heap.malloc(100), 30 * PAGE),
    ]) {
      const { heap } = await newHeap();
      heap.malloc(100);
      heap.free(address(heap));
      assertTraps(() => slow(heap));
    }
  });

  test(`compact: freeing ${where} traps at once`, async () => {
    const { heap } = await newCompactHeap();
    heap.malloc(100);
    const wrong = address(heap);
    assertTraps(() => heap.free(wrong));
  });
}

test("compact: freeing a large block or the only slot of a run twice traps at once", async () => {
  const { heap } = await newCompactHeap();
  for (const block of [heap.page_alloc(1, 1), heap.malloc(10 * PAGE), heap.malloc(16_384)]) {
    heap.free(block);
    assertTraps(() => heap.free(block));
  }
});

test("freeing a large block twice traps at the next slow call", async () => {
  const { heap } = await newHeap();
  const block = heap.malloc(10 * PAGE);
  heap.free(block);
  heap.free(block);
  assertTraps(() => heap.malloc(11 * PAGE));
});

test("freeing a free block traps before its pages are reused, however many runs have had events since", async () => {
  for (const runs of [0, 10, 24, 30]) {
    // Large enough from the start that the page map does not move.
    const { heap } = await newHeap({ initial: 8 });
    const slots = new Map<number, number>();
    for (let slot; slots.size < runs; slots.set(runOf(heap, slot), slot)) slot = heap.malloc(1024);
    const block = heap.malloc(20 * PAGE);
    heap.malloc(20 * PAGE);
    heap.free(block);
    heap.malloc(50 * PAGE);
    heap.free(block);
    for (const slot of slots.values()) heap.free(slot);
    assertTraps(() => heap.malloc(20 * PAGE), `no trap with ${runs} later events`);
  }
});

test("realloc and malloc_usable_size of an address where no block starts trap at once", async () => {
  for (const address of Object.values(WRONG)) {
    for (const newHeapOfBuild of [newHeap, newCompactHeap]) {
      const { heap } = await newHeapOfBuild();
      heap.malloc(100);
      const wrong = address(heap);
      assertTraps(() => heap.malloc_usable_size(wrong));
      assertTraps(() => heap.realloc(wrong, 200));
    }
  }
});

/** The page map's entry for a page, as an index into `words`. */
const entryOf = (heap: Heap, page: number) => stateWord(heap, LAYOUT.STATE_MAP) / 4 + page;
const runOf = (heap: Heap, address: number) => words(heap)[entryOf(heap, Math.floor(address / PAGE))]!;
const noRun = (heap: Heap) => heap.state + LAYOUT.NO_RUN;

// The following return fields as indexes into `words`.

/** A field of the Run to which an address belongs. */
const field = (heap: Heap, address: number, offset: number) => (runOf(heap, address) + offset) / 4;
/** A field of the header of the metadata page in which that Run lies. */
const headerField = (heap: Heap, address: number, offset: number) =>
  (Math.floor(runOf(heap, address) / PAGE) * PAGE + offset) / 4;
const stateField = (heap: Heap, offset: number) => (heap.state + offset) / 4;
/** A field of the bin to which a slot belongs. */
const binField = (heap: Heap, slot: number, offset: number) => {
  const kind = words(heap)[field(heap, slot, LAYOUT.RUN_KIND)]! & 0xffff;
  return stateField(heap, LAYOUT.BIN_TABLE + LAYOUT.BIN_STEP * kind + offset);
};
/** The bitmap with a bit for each page: whether it is free. The grades have a byte for each 64 of its bits. */
const bits = (heap: Heap) => new Uint8Array(heap.memory.buffer, stateWord(heap, LAYOUT.STATE_FREE));
const grades = (heap: Heap) => new Uint8Array(heap.memory.buffer, stateWord(heap, LAYOUT.STATE_GRADES));
const lastPage = (heap: Heap) => stateWord(heap, LAYOUT.STATE_END) - 1;

/** Ways to damage a heap that has two blocks of 100 bytes in use and two freed, and the same of 50,000 bytes. */
const DAMAGE: Readonly<Record<string, (heap: Heap, blocks: readonly number[]) => void>> = {
  "a list of freed slots with a cycle": (heap, [, , freed]) => (words(heap)[freed! / 4] = freed!),
  "a slot freed twice": (heap, [, , freed]) => heap.free(freed!),
  "a block that should be in use, but was freed": (heap, [used]) => heap.free(used!),
  "an address inside a slot that was freed": (heap, [used]) => heap.free(used! + 16),
  "a large block freed twice": (heap, blocks) => heap.free(blocks[6]!),
  "an address in a free page that was freed": (heap) => heap.free(lastPage(heap) * PAGE),
  "a free page that leads to a run": (heap, blocks) =>
    (words(heap)[entryOf(heap, lastPage(heap))] = runOf(heap, blocks[4]!)),
  "a page in use that counts as free": (heap, [used]) => (bits(heap)[Math.floor(used! / PAGE / 8)] = 0xff),
  "a free page that counts as in use": (heap) => (bits(heap)[lastPage(heap) >>> 3] = 0),
  "a page that leads to another run": (heap, blocks) =>
    (words(heap)[entryOf(heap, Math.floor(blocks[0]! / PAGE))] = runOf(heap, blocks[4]!)),
  "an inner page of a large block that leads to its run": (heap, blocks) =>
    (words(heap)[entryOf(heap, Math.floor(blocks[4]! / PAGE) + 1)] = runOf(heap, blocks[4]!)),
  "a page behind the heap that leads to a run": (heap, blocks) =>
    (words(heap)[entryOf(heap, lastPage(heap) + 1)] = runOf(heap, blocks[4]!)),
  "a block's first page that leads to no run": (heap, blocks) =>
    (words(heap)[entryOf(heap, Math.floor(blocks[4]! / PAGE))] = noRun(heap)),
  "a run with the kind of another bin": (heap, [used]) =>
    (words(heap)[field(heap, used!, LAYOUT.RUN_KIND)]! -= 1),
  "a run that counts too few slots": (heap, [used]) =>
    (words(heap)[field(heap, used!, LAYOUT.RUN_KIND)]! -= 0x10000),
  "a run missing from the list of events": (heap, [used]) => {
    words(heap)[stateField(heap, LAYOUT.STATE_EVENTS)] = words(heap)[field(heap, used!, LAYOUT.RUN_EVENT)]!;
    words(heap)[field(heap, used!, LAYOUT.RUN_LEFT)]! += 1;
  },
  "a run in a ring with a wrong count of frees left": (heap, [used]) => {
    heap.mallinfo();
    words(heap)[field(heap, used!, LAYOUT.RUN_LEFT)]! += 1;
  },
  "a ring that has lost its run": (heap, [used]) => {
    heap.mallinfo();
    const first = binField(heap, used!, LAYOUT.BIN_FIRST);
    words(heap)[first] = 4 * first - LAYOUT.BIN_FIRST;
  },
  "a ring with a wrong link back": (heap, [used]) => {
    heap.mallinfo();
    words(heap)[field(heap, used!, LAYOUT.RUN_PREV)] = noRun(heap);
  },
  "a slot in use that counts as never used": (heap, [used]) =>
    (words(heap)[binField(heap, used!, LAYOUT.BIN_FRESH)] = used!),
  "a range of never-used slots that ends too early": (heap, [used]) =>
    (words(heap)[binField(heap, used!, LAYOUT.BIN_FRESH_END)]! -=
      words(heap)[field(heap, used!, LAYOUT.RUN_SIZE)]!),
  "a wrong count of a bin's pages": (heap, [used]) =>
    (words(heap)[binField(heap, used!, LAYOUT.BIN_PAGES)]! += 1),
  "a wrong entry in the table of bins": (heap) => (words(heap)[stateField(heap, LAYOUT.BIN_OF) + 20]! += 1),
  "a spare Run that is lost": (heap, [used]) =>
    (words(heap)[headerField(heap, used!, LAYOUT.RUN_FREE)]! += LAYOUT.RUN_STEP),
  "a wrong count of Runs in use": (heap, [used]) =>
    (words(heap)[headerField(heap, used!, LAYOUT.RUN_LEFT)]! += 1),
  "a spare Run that is in use": (heap, [used]) =>
    (words(heap)[headerField(heap, used!, LAYOUT.RUN_FREE)] = runOf(heap, used!)),
  "spare Runs that are in no ring": (heap) => {
    const ring = stateField(heap, LAYOUT.METADATA_PAGES);
    words(heap)[ring] = 4 * ring - LAYOUT.RUN_NEXT;
    words(heap)[ring + 1] = words(heap)[ring]!;
  },
  "a wrong count of used pages": (heap) => (words(heap)[stateField(heap, LAYOUT.STATE_USED)]! -= 1),
  "a grade that is too low": (heap) => grades(heap).fill(0),
  "a grade after the last that ends no search": (heap) => {
    const behind = stateWord(heap, LAYOUT.STATE_CAPACITY) / LAYOUT.WORD_PAGES;
    grades(heap)[behind] = 0;
  },
  "a written page that counts as fresh": (heap) => {
    new Uint8Array(heap.memory.buffer)[stateWord(heap, LAYOUT.STATE_FRESH) * PAGE + 9] = 1;
  },
};

async function someHeap(): Promise<{ heap: Heap; base: number; blocks: number[]; live: number[] }> {
  const { heap, base } = await newHeap({ initial: 8 });
  const blocks = [100, 100, 100, 100, 50_000, 50_000, 50_000, 50_000].map((size) => heap.malloc(size));
  for (const freed of [2, 3, 6, 7]) heap.free(blocks[freed]!);
  return { heap, base, blocks, live: [0, 1, 4, 5].map((used) => blocks[used]!) };
}

test("the checker accepts a sound heap", async () => {
  const { heap, base, live } = await someHeap();
  checkLive(heap, base, live);
  // Again, after mallinfo has handled all events.
  heap.mallinfo();
  checkLive(heap, base, live);
});

for (const [what, damage] of Object.entries(DAMAGE)) {
  test(`the checker reports ${what}`, async () => {
    const { heap, base, blocks, live } = await someHeap();
    damage(heap, blocks);
    assert.throws(() => checkLive(heap, base, live), /^heap: /);
  });
}

test.run();
