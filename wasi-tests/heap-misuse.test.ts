/** Wrong pointers that are freed end the program at the next slow call; and the checker sees what goes wrong in a heap. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Heap } from "../npm/index.ts";
import { WASM_PAGE } from "../npm/webassembly.ts";
import { LAYOUT } from "./heap-check.ts";
import { PAGE, checkAgainst, emptyModel, newHeap, type Model } from "./support-heap.ts";

const words = (heap: Heap) => new Uint32Array(heap.memory.buffer);
const state = (heap: Heap, offset: number) => words(heap)[(heap.state + offset) / 4]!;

function assertTraps(call: () => unknown, message?: string): void {
  assert.throws(call, (error: unknown) => error instanceof WebAssembly.RuntimeError, message);
}

/** Addresses where no block starts, in a heap that has some. */
const WRONG: Readonly<Record<string, (heap: Heap) => number>> = {
  "the program's data": () => 64,
  "the page map": (heap) => state(heap, LAYOUT.STATE_MAP),
  "a record of a run": (heap) => runOf(heap, heap.malloc(100)),
  "memory that another took": (heap) => heap.memory.grow(1) * WASM_PAGE,
  "the second page of a large block": (heap) => heap.malloc(10 * PAGE) + PAGE,
  "the last page of a large block": (heap) => heap.malloc(10 * PAGE) + 9 * PAGE,
  "the second page of a slot that is its run's only one": (heap) => heap.malloc(8 * PAGE) + PAGE,
  "a large block that was freed, and its page with it": (heap) => {
    const block = heap.malloc(10 * PAGE);
    heap.malloc(10 * PAGE);
    heap.free(block);
    heap.malloc(20 * PAGE);
    return block;
  },
};

for (const [where, address] of Object.entries(WRONG)) {
  test(`to free ${where} traps at the next slow call`, async () => {
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
}

test("to free a large block twice traps", async () => {
  const { heap } = await newHeap();
  const block = heap.malloc(10 * PAGE);
  heap.free(block);
  heap.free(block);
  assertTraps(() => heap.malloc(11 * PAGE));
});

test("to free what is free traps before it serves again, however many runs have events since", async () => {
  for (const runs of [0, 10, 24, 30]) {
    // So large that the page map does not move.
    const { heap } = await newHeap({ initial: 8 });
    const slots = new Map<number, number>();
    for (let slot; slots.size < runs; slots.set(runOf(heap, slot), slot)) slot = heap.malloc(1024);
    const block = heap.malloc(20 * PAGE);
    heap.malloc(20 * PAGE);
    heap.free(block);
    heap.malloc(50 * PAGE);
    heap.free(block);
    for (const slot of slots.values()) heap.free(slot);
    assertTraps(() => heap.malloc(20 * PAGE), `${runs} runs`);
  }
});

test("to resize or measure what is no block traps at once", async () => {
  for (const address of Object.values(WRONG)) {
    const { heap } = await newHeap();
    heap.malloc(100);
    const wrong = address(heap);
    assertTraps(() => heap.malloc_usable_size(wrong));
    assertTraps(() => heap.realloc(wrong, 200));
  }
});

/** Where the map has the Run of a page. */
const entryOf = (heap: Heap, page: number) => state(heap, LAYOUT.STATE_MAP) / 4 + page;
const runOf = (heap: Heap, address: number) => words(heap)[entryOf(heap, Math.floor(address / PAGE))]!;
const noRun = (heap: Heap) => heap.state + LAYOUT.NO_RUN;

/** A field of the Run of an address. */
const field = (heap: Heap, address: number, offset: number) => (runOf(heap, address) + offset) / 4;
/** A field of the page that the Run lies in. */
const headerField = (heap: Heap, address: number, offset: number) =>
  (Math.floor(runOf(heap, address) / PAGE) * PAGE + offset) / 4;
const stateField = (heap: Heap, offset: number) => (heap.state + offset) / 4;
/** A field of the bin that has the slot at an address. */
const binField = (heap: Heap, slot: number, offset: number) => {
  const kind = words(heap)[field(heap, slot, LAYOUT.RUN_KIND)]! & 0xffff;
  return stateField(heap, LAYOUT.BIN_TABLE + LAYOUT.BIN_STEP * kind + offset);
};
/** A bit for each page: whether it is free. And what searches know of 64 of them each. */
const bits = (heap: Heap) => new Uint8Array(heap.memory.buffer, state(heap, LAYOUT.STATE_FREE));
const grades = (heap: Heap) => new Uint8Array(heap.memory.buffer, state(heap, LAYOUT.STATE_GRADES));
const lastPage = (heap: Heap) => state(heap, LAYOUT.STATE_END) - 1;

/** Ways to damage a heap with two blocks of 100 bytes in use, two freed, and the same of 50,000 bytes. */
const DAMAGE: Readonly<Record<string, (heap: Heap, blocks: readonly number[]) => void>> = {
  "a list of slots with a cycle": (heap, [, , freed]) => (words(heap)[freed! / 4] = freed!),
  "a slot freed twice": (heap, [, , freed]) => heap.free(freed!),
  "a block that is in use, freed": (heap, [used]) => heap.free(used!),
  "an inner address of a slot, freed": (heap, [used]) => heap.free(used! + 16),
  "a large block freed twice": (heap, blocks) => heap.free(blocks[6]!),
  "an address in a free run, freed": (heap) => heap.free(lastPage(heap) * PAGE),
  "a free page that leads somewhere": (heap, blocks) =>
    (words(heap)[entryOf(heap, lastPage(heap))] = runOf(heap, blocks[4]!)),
  "a page in use that counts as free": (heap, [used]) => (bits(heap)[Math.floor(used! / PAGE / 8)] = 0xff),
  "a free page that counts as in use": (heap) => (bits(heap)[lastPage(heap) >>> 3] = 0),
  "a page of another run": (heap, blocks) =>
    (words(heap)[entryOf(heap, Math.floor(blocks[0]! / PAGE))] = runOf(heap, blocks[4]!)),
  "a page inside a large block that leads somewhere": (heap, blocks) =>
    (words(heap)[entryOf(heap, Math.floor(blocks[4]! / PAGE) + 1)] = runOf(heap, blocks[4]!)),
  "a page behind the heap that leads somewhere": (heap, blocks) =>
    (words(heap)[entryOf(heap, lastPage(heap) + 1)] = runOf(heap, blocks[4]!)),
  "a page that nothing serves": (heap, blocks) =>
    (words(heap)[entryOf(heap, Math.floor(blocks[4]! / PAGE))] = noRun(heap)),
  "a run of another bin": (heap, [used]) => (words(heap)[field(heap, used!, LAYOUT.RUN_KIND)]! -= 1),
  "a run of fewer slots": (heap, [used]) => (words(heap)[field(heap, used!, LAYOUT.RUN_KIND)]! -= 0x10000),
  "a run that is not on the list of events": (heap, [used]) => {
    words(heap)[stateField(heap, LAYOUT.STATE_EVENTS)] = words(heap)[field(heap, used!, LAYOUT.RUN_EVENT)]!;
    words(heap)[field(heap, used!, LAYOUT.RUN_LEFT)]! += 1;
  },
  "a run in a ring that counts wrong": (heap, [used]) => {
    heap.mallinfo();
    words(heap)[field(heap, used!, LAYOUT.RUN_LEFT)]! += 1;
  },
  "a ring that lost its run": (heap, [used]) => {
    heap.mallinfo();
    const first = binField(heap, used!, LAYOUT.BIN_FIRST);
    words(heap)[first] = 4 * first - LAYOUT.BIN_FIRST;
  },
  "a ring with a wrong link back": (heap, [used]) => {
    heap.mallinfo();
    words(heap)[field(heap, used!, LAYOUT.RUN_PREV)] = noRun(heap);
  },
  "a run in use that is kept": (heap, [used]) =>
    (words(heap)[binField(heap, used!, LAYOUT.BIN_KEPT)] = runOf(heap, used!)),
  "a fresh slot that is in use": (heap, [used]) =>
    (words(heap)[binField(heap, used!, LAYOUT.BIN_FRESH)] = used!),
  "fresh slots that end too soon": (heap, [used]) =>
    (words(heap)[binField(heap, used!, LAYOUT.BIN_FRESH_END)]! -=
      words(heap)[field(heap, used!, LAYOUT.RUN_SIZE)]!),
  "a wrong count of a bin's pages": (heap, [used]) =>
    (words(heap)[binField(heap, used!, LAYOUT.BIN_PAGES)]! += 1),
  "a wrong size in the table of bins": (heap) => (words(heap)[stateField(heap, LAYOUT.BIN_OF) + 20]! += 1),
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
  "grades that end no search": (heap) => {
    const behind = state(heap, LAYOUT.STATE_CAPACITY) / LAYOUT.WORD_PAGES;
    grades(heap)[behind] = 0;
  },
  "a written page that counts as fresh": (heap) => {
    new Uint8Array(heap.memory.buffer)[state(heap, LAYOUT.STATE_FRESH) * PAGE + 9] = 1;
  },
};

async function someHeap(): Promise<{ heap: Heap; base: number; blocks: number[]; model: Model }> {
  const { heap, base } = await newHeap({ initial: 8 });
  const blocks = [100, 100, 100, 100, 50_000, 50_000, 50_000, 50_000].map((size) => heap.malloc(size));
  for (const freed of [2, 3, 6, 7]) heap.free(blocks[freed]!);
  const live = [0, 1, 4, 5].map((used) => ({ address: blocks[used]!, usable: 0, tag: 0, fromPages: false }));
  return { heap, base, blocks, model: { ...emptyModel(), blocks: live } };
}

test("the checker finds nothing wrong in a sound heap", async () => {
  const { heap, base, model } = await someHeap();
  checkAgainst(heap, model, base);
  // The same when nothing waits any more.
  heap.mallinfo();
  checkAgainst(heap, model, base);
});

for (const [what, damage] of Object.entries(DAMAGE)) {
  test(`the checker sees ${what}`, async () => {
    const { heap, base, blocks, model } = await someHeap();
    damage(heap, blocks);
    assert.throws(() => checkAgainst(heap, model, base), /^heap: /);
  });
}

test.run();
