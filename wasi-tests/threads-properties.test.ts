/** Random sequences of calls, as in heap-model.test.ts, on the libraries for threads. */
import fc from "fast-check";
import { test } from "uvu";
import { NAMES, apiOf, assertKept, calls, emptyModel, make, release, type Call } from "./support-heap.ts";
import { VARIANTS, buildThreaded, startThreads, threadLibrary } from "./support-threads.ts";

const EXPORTED = [
  "__heap_base",
  "__heap_end",
  "__errno_location",
  "rsbmalloc_thread_end",
  "rsbmalloc_check",
  ...Object.values(NAMES),
];
const MOST_PAGES = 16384;

for (const variant of VARIANTS) {
  const module = await buildThreaded(threadLibrary(variant), ["wasi-tests/programs/threads.c"], MOST_PAGES, {
    exported: EXPORTED,
    flags: ["-DWASI_THREADS"],
  });

  /** From an empty heap to one that is empty again. */
  const run = (sequence: readonly Call[], pages: number, mayFail: boolean): void => {
    const threads = startThreads(module, pages);
    const api = apiOf(threads.memory, threads.exports);
    const model = emptyModel();
    for (const step of sequence) make(api, model, step, mayFail);
    assertKept(api, model);
    threads.check(
      model.blocks.map(({ address }) => address),
      model.foreign,
    );
    while (model.blocks.length > 0) release(api, model, model.blocks.length - 1);
    threads.exports.rsbmalloc_thread_end!();
    threads.check([], model.foreign);
  };
  const sequences = fc.array(calls(), { maxLength: 80, size: "max" });

  test(`${variant}: any sequence of calls does what it should, and leaves nothing in use when all is freed`, () => {
    const property = fc.property(sequences, (sequence) => run(sequence, MOST_PAGES, false));
    fc.assert(property, { numRuns: 500, includeErrorInReport: true });
  });

  test(`${variant}: the same in a small memory, where calls fail with ENOMEM`, () => {
    const property = fc.property(sequences, fc.integer({ min: 4, max: 24 }), (sequence, pages) =>
      run(sequence, pages, true),
    );
    fc.assert(property, { numRuns: 500, includeErrorInReport: true });
  });
}

test.run();
