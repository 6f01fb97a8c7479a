/** Wrong pointers that are freed end the program at the next slow call; and the checker sees what goes wrong in a heap. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Heap } from "../npm/index.ts";
import { LAYOUT } from "./heap-check.ts";
import { PAGE, WASM_PAGE, checkAgainst, emptyModel, newHeap, type Model } from "./support-heap.ts";

const words = (heap: Heap) => new Uint32Array(heap.memory.buffer);
const state = (heap: Heap, offset: number) => words(heap)[(heap.state + offset) / 4]!;

function assertTraps(call: () => unknown, message?: string): void {
  assert.throws(call, (error: unknown) => error instanceof WebAssembly.RuntimeError, message);
}

/** Addresses where no block starts, in a heap that has some. */
const WRONG: Readonly<Record<string, (heap: Heap) => number>> = {
  "the program's data": () => 64,
  "the page map": (heap) => state(heap, LAYOUT.STATE_KINDS),
  "memory that another took": (heap) => heap.memory.grow(1) * WASM_PAGE,
  "the second page of a large block": (heap) => heap.malloc(10 * PAGE) + PAGE,
  "the last page of a large block": (heap) => heap.malloc(10 * PAGE) + 9 * PAGE,
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

test("to resize or measure what is no block traps at once", async () => {
  for (const address of Object.values(WRONG)) {
    const { heap } = await newHeap();
    heap.malloc(100);
    const wrong = address(heap);
    assertTraps(() => heap.malloc_usable_size(wrong));
    assertTraps(() => heap.realloc(wrong, 200));
  }
});

/** Ways to damage a heap with two blocks of 100 bytes in use, two freed, and the same of 50,000 bytes. */
const DAMAGE: Readonly<Record<string, (heap: Heap, blocks: readonly number[]) => void>> = {
  "a list of slots with a cycle": (heap, [, , freed]) => (words(heap)[freed! / 4] = freed!),
  "a slot freed twice": (heap, [, , freed]) => heap.free(freed!),
  "a block that is in use, freed": (heap, [used]) => heap.free(used!),
  "an inner address of a slot, freed": (heap, [used]) => heap.free(used! + 16),
  "a free run of another length": (heap) => {
    const end = state(heap, LAYOUT.STATE_END);
    const kinds = new Uint8Array(heap.memory.buffer, state(heap, LAYOUT.STATE_KINDS));
    kinds[end - 1] = LAYOUT.NONE;
  },
  "a page of another bin": (heap, [used]) => {
    const kinds = new Uint8Array(heap.memory.buffer, state(heap, LAYOUT.STATE_KINDS));
    kinds[Math.floor(used! / PAGE)] = LAYOUT.FIRST_BIN;
  },
  "a page that nothing serves": (heap, blocks) => {
    const kinds = new Uint8Array(heap.memory.buffer, state(heap, LAYOUT.STATE_KINDS));
    kinds[Math.floor(blocks[4]! / PAGE)] = LAYOUT.NONE;
  },
  "a wrong count of used pages": (heap) => (words(heap)[(heap.state + LAYOUT.STATE_USED) / 4]! -= 1),
  "a bit of the run lists": (heap) => (words(heap)[(heap.state + LAYOUT.STATE_RUN_BITS) / 4]! ^= 8),
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
});

for (const [what, damage] of Object.entries(DAMAGE)) {
  test(`the checker sees ${what}`, async () => {
    const { heap, base, blocks, model } = await someHeap();
    damage(heap, blocks);
    assert.throws(() => checkAgainst(heap, model, base), /^heap: /);
  });
}

test.run();
