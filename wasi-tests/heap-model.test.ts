/** Random sequences of calls on a heap, checked against a model of it. */
import fc from "fast-check";
import * as assert from "uvu/assert";
import type { Options } from "../npm/index.ts";
import { WASM_PAGE } from "../npm/webassembly.ts";
import { test, type NewHeap } from "./support-builds.ts";
import {
  ALL_PAGES,
  assertKept,
  calls,
  checkAgainst,
  emptyModel,
  fillUp,
  make,
  release,
  type Call,
} from "./support-heap.ts";

/**
 * Runs a sequence on a new heap, which it fills up in the end if calls may fail, and frees all blocks. Checks the heap
 * after every `interval` calls.
 */
async function run(
  newHeap: NewHeap,
  sequence: readonly Call[],
  options: Options,
  mayFail: boolean,
  interval = 16,
): Promise<void> {
  const { heap, base } = await newHeap(options);
  const model = emptyModel();
  for (const [at, step] of sequence.entries()) {
    make(heap, model, step, mayFail);
    if (at % interval === interval - 1) checkAgainst(heap, model, base);
  }
  if (mayFail) fillUp(heap, model);
  assertKept(heap, model);
  checkAgainst(heap, model, base);

  while (model.blocks.length > 0) release(heap, model, model.blocks.length - 1);
  checkAgainst(heap, model, base);
  const { inUse, free, heap: all } = heap.mallinfo();
  assert.is(inUse, 0);
  assert.is(free, all);
  checkAgainst(heap, model, base);
}

const RUNS = { numRuns: 1500, includeErrorInReport: true };
/** Where a check takes long, since it reads the whole page map, which reaches from address 0. */
const FEW_RUNS = { ...RUNS, numRuns: 40 };

const sequences = fc.array(calls(), { maxLength: 80, size: "max" });

test("any sequence of calls agrees with the model, and nothing is in use once all blocks are freed", async (newHeap) => {
  await fc.assert(
    fc.asyncProperty(sequences, (sequence) => run(newHeap, sequence, { maximum: ALL_PAGES }, false)),
    RUNS,
  );
});

test("any sequence of calls in a small memory agrees with the model, where calls may fail with ENOMEM", async (newHeap) => {
  await fc.assert(
    fc.asyncProperty(sequences, fc.integer({ min: 1, max: 24 }), (sequence, pages) =>
      run(newHeap, sequence, { maximum: pages }, true),
    ),
    RUNS,
  );
});

/**
 * Heaps that start up to `pages` wasm pages below `address`, in memories that end up to as far behind their starts, but
 * can grow to 4 GiB.
 */
const startsBelow = (address: number, pages: number): fc.Arbitrary<{ heapBase: number; initial: number }> =>
  fc
    .record({ distance: fc.integer({ min: WASM_PAGE, max: pages * WASM_PAGE }), beyond: fc.nat(pages) })
    .map(({ distance, beyond }) => {
      const heapBase = address - distance;
      return { heapBase, initial: Math.min(Math.ceil(heapBase / WASM_PAGE) + beyond, ALL_PAGES) };
    });

for (const { place, starts, mayFail } of [
  { place: "just below 2 GiB", starts: startsBelow(2 ** 31, 150), mayFail: false },
  {
    place: "just below 4 GiB, where calls may fail with ENOMEM",
    starts: startsBelow(2 ** 32, 300),
    mayFail: true,
  },
]) {
  test(`any sequence of calls on a heap that starts ${place} agrees with the model`, async (newHeap) => {
    await fc.assert(
      fc.asyncProperty(sequences, starts, (sequence, { heapBase, initial }) => {
        const memory = new WebAssembly.Memory({ initial, maximum: ALL_PAGES });
        return run(newHeap, sequence, { memory, heapBase }, mayFail, 80);
      }),
      FEW_RUNS,
    );
  });
}

test.run();
