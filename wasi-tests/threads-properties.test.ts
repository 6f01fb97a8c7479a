/** Random sequences of calls on the libraries for threads, checked against a model as in heap-model.test.ts. */
import fc from "fast-check";
import { test } from "uvu";
import {
  PREFIXED_NAMES,
  apiOf,
  assertKept,
  calls,
  emptyModel,
  make,
  release,
  type Call,
} from "./support-heap.ts";
import { PLENTY, PROGRAM, VARIANTS, buildThreaded, startThreads } from "./support-threads.ts";

const EXPORTED = [
  "__heap_base",
  "__heap_end",
  "__errno_location",
  "rsbmalloc_thread_end",
  "rsbmalloc_check",
  ...PREFIXED_NAMES,
];

/**
 * Adds two tests of `run` on random sequences: with plenty of memory, and with little. `run` begins with an empty heap
 * and frees all blocks in the end.
 */
function testSequences<T>(
  variant: string,
  title: string,
  numRuns: number,
  sequences: fc.Arbitrary<T>,
  run: (sequence: T, pages: number, mayFail: boolean) => void,
): void {
  test(`${variant}: ${title}`, () => {
    const property = fc.property(sequences, (sequence) => run(sequence, PLENTY, false));
    fc.assert(property, { numRuns, includeErrorInReport: true });
  });

  test(`${variant}: ${title} (small memory, where calls may fail with ENOMEM)`, () => {
    const property = fc.property(sequences, fc.integer({ min: 4, max: 24 }), (sequence, pages) =>
      run(sequence, pages, true),
    );
    fc.assert(property, { numRuns, includeErrorInReport: true });
  });
}

for (const variant of VARIANTS) {
  const module = await buildThreaded(variant, [PROGRAM], PLENTY, {
    exported: EXPORTED,
    flags: ["-DWASI_THREADS"],
  });

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

  testSequences(
    variant,
    "any sequence of calls agrees with the model, and nothing is in use once all blocks are freed",
    500,
    sequences,
    run,
  );
}

const BY_TURNS = 3;
const TURN_EXPORTS = [...EXPORTED.filter((name) => name !== "__errno_location"), "__stack_pointer"];

/** A call, the thread that makes it, and whether that thread reports its end afterwards. */
interface Turn {
  readonly by: number;
  readonly step: Call;
  readonly ends: boolean;
}

for (const variant of [...VARIANTS, "mt-hardened"] as const) {
  // Linked without thread-local variables: all instances run on this one thread, and share its stack.
  const module = await buildThreaded(variant, ["wasi-tests/programs/hardened-calls.c"], PLENTY, {
    exported: TURN_EXPORTS,
  });

  const run = (turns: readonly Turn[], pages: number, mayFail: boolean): void => {
    const threads = startThreads(module, pages);
    const all = [threads.exports, ...Array.from({ length: BY_TURNS - 1 }, threads.another)];
    const apis = all.map((exports) => apiOf(threads.memory, exports));
    const model = emptyModel();
    for (const { by, step, ends } of turns) {
      make(apis[by]!, model, step, mayFail);
      if (ends) all[by]!.rsbmalloc_thread_end!();
    }
    assertKept(apis[0]!, model);
    for (let by = 0; model.blocks.length > 0; by = (by + 1) % BY_TURNS)
      release(apis[by]!, model, model.blocks.length - 1);
    for (const exports of all) exports.rsbmalloc_thread_end!();
    threads.check([], model.foreign);
  };
  const turns = fc.array(
    fc.record({
      by: fc.nat(BY_TURNS - 1),
      step: calls(),
      ends: fc.nat(19).map((number) => number === 0),
    }),
    { maxLength: 80, size: "max" },
  );

  testSequences(
    variant,
    "any sequence of calls made by threads in turns, on each other's blocks, agrees with the model",
    300,
    turns,
    run,
  );
}

test.run();
