/**
 * Threads make random calls on one heap for a few seconds, or for minutes under CI=true. RSB_SEED=N repeats the calls of
 * an earlier run, though not the interleaving of the threads; RSB_STRESS=10 takes ten times as long.
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
  type Threads,
} from "./support-threads.ts";

/** The most wasm pages that are taken by growing memory beside the heap. */
const BESIDE = 64;

/** The length of a round, which begins with a new heap and ends with an empty one, and the number of rounds of a kind. */
const ROUND_MS = (process.env.CI === "true" ? 2000 : 400) * LENGTH;
const ROUNDS = process.env.CI === "true" ? 3 : 1;

const SEED = Number(process.env.RSB_SEED ?? 1 + (Date.now() % 1_000_000));
console.log(`RSB_SEED=${SEED}`);

/** Runs `count` threads on a new heap, and one that grows memory beside it. Returns how many calls failed. */
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
  const module = await buildThreaded(variant, [PROGRAM], PLENTY);
  for (const count of [2, 4, 8, 16]) {
    /** Runs the rounds of one kind, with at most `pages` of memory. A failure reports the seed that repeats its calls. */
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

    test(`${variant}: random calls of ${count} threads all succeed while memory also grows beside the heap`, () =>
      rounds(PLENTY, (failed) => assert.is(failed, 0)));

    test(`${variant}: random calls of ${count} threads do not damage the heap when memory is too small for them`, () =>
      rounds(8 + 2 * count, (failed) => assert.ok(failed > 0, "no call failed: memory was never out")));
  }
}

test.run();
