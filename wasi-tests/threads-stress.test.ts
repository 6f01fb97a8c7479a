/**
 * Threads make random calls on one heap for as long as there is time: a moment, or minutes under CI=true. RSB_SEED=N gives the
 * calls of an earlier run, RSB_STRESS=10 ten times the time. Which thread comes first is up to the machine.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { WASM_PAGE } from "../npm/webassembly.ts";
import {
  LENGTH,
  PLENTY,
  PROGRAM,
  THREAD_END,
  VARIANTS,
  allAtWork,
  buildThreaded,
  counts,
  startThreads,
  threadLibrary,
  type Threads,
} from "./support-threads.ts";

/** Pages that others than the heap take at most. */
const BESIDE = 64;

/** Of a round, in which a heap comes to be and is empty in the end; and how many there are of each kind. */
const ROUND_MS = (process.env.CI === "true" ? 2000 : 400) * LENGTH;
const ROUNDS = process.env.CI === "true" ? 3 : 1;

const SEED = Number(process.env.RSB_SEED ?? 1 + (Date.now() % 1_000_000));
console.log(`RSB_SEED=${SEED}`);

/** Lets `count` threads at a heap in a memory of `pages` at most. Returns how many calls failed. */
async function round(threads: Threads, count: number, seed: number): Promise<number> {
  const work = counts(count).map((index) => threads.run([["churn", seed + index, count + 1], THREAD_END]));
  const all = Promise.all([...work, threads.run([["grow_beside", BESIDE, count + 1]])]);
  await Promise.race([all, allAtWork(threads, count + 1).then(() => sleep(ROUND_MS))]);
  threads.exports.stop!();
  const results = (await all).map(([result]) => result!);
  const taken = results.pop()!;

  threads.exports.drain!();
  threads.exports.rsbmalloc_thread_end!();
  const foreign = counts(taken).map((number) => {
    const from = threads.exports.page_beside!(number) >>> 0;
    return [from, from + WASM_PAGE] as const;
  });
  threads.check([], foreign);
  return results.reduce((sum, failed) => sum + failed);
}

for (const variant of [...VARIANTS, "mt-hardened"] as const) {
  const module = await buildThreaded(threadLibrary(variant), [PROGRAM], PLENTY);
  for (const count of [2, 4, 8, 16]) {
    /** The rounds of one kind. A failure tells how to come to it again. */
    const rounds = async (pages: number, body: (failed: number) => void): Promise<void> => {
      for (const number of counts(ROUNDS)) {
        const seed = SEED + 100 * number + count;
        try {
          body(await round(startThreads(module, pages, seed & 0xff), count, seed));
        } catch (error) {
          const { message, stack } = error as Error;
          throw new Error(`${message}, in round ${number} of RSB_SEED=${SEED}\n${stack}`);
        }
      }
    };

    test(`${variant}: ${count} threads make random calls, while others make memory grow`, () =>
      rounds(PLENTY, (failed) => assert.is(failed, 0)));

    test(`${variant}: ${count} threads make random calls in less memory than they ask for`, () =>
      rounds(8 + 2 * count, (failed) => assert.ok(failed > 0, "memory was never out")));
  }
}

test.run();
