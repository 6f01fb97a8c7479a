/** Random sequences of calls on a heap, checked against a model of it. */
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  assertKept,
  calls,
  checkAgainst,
  emptyModel,
  make,
  newHeap,
  release,
  type Call,
} from "./support-heap.ts";

/** Runs a sequence on a new heap, checks the heap after every 16 calls, and frees all blocks in the end. */
async function run(sequence: readonly Call[], maximum: number, mayFail: boolean): Promise<void> {
  const { heap, base } = await newHeap({ maximum });
  const model = emptyModel();
  for (const [at, step] of sequence.entries()) {
    make(heap, model, step, mayFail);
    if (at % 16 === 15) checkAgainst(heap, model, base);
  }
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

test("any sequence of calls agrees with the model, and nothing is in use once all blocks are freed", async () => {
  const sequences = fc.array(calls(), { maxLength: 80, size: "max" });
  await fc.assert(
    fc.asyncProperty(sequences, (sequence) => run(sequence, 65536, false)),
    RUNS,
  );
});

test("any sequence of calls in a small memory agrees with the model, where calls may fail with ENOMEM", async () => {
  const sequences = fc.array(calls(), { maxLength: 80, size: "max" });
  await fc.assert(
    fc.asyncProperty(sequences, fc.integer({ min: 1, max: 24 }), (sequence, pages) =>
      run(sequence, pages, true),
    ),
    RUNS,
  );
});

test.run();
