/** The libraries for threads, in modules without a C library. Each thread is a worker. */
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { WASM_PAGE } from "../npm/webassembly.ts";
import { CompileError, build, findCompiler } from "../tools/compiler.ts";
import { library } from "../tools/libraries.ts";
import { HARDENED_LAYOUT, LAYOUT } from "./heap-check.ts";
import { PAGE } from "./support-heap.ts";
import {
  LENGTH,
  PLENTY,
  PROGRAM,
  THREAD_END,
  VARIANTS,
  allAtWork,
  buildThreaded,
  counts,
  findState,
  sharedMemory,
  startThreads,
  type Call,
  type Threads,
} from "./support-threads.ts";
import { rejection } from "./support.ts";

const MIB = 2 ** 20;
/** The states of the lock: src/lock.ts. */
const [FREE, HELD, CONTENDED] = [0, 1, 2];

/** The number of blocks that a queue of the program can hold. */
const QUEUE = 1024;

/** Reads a word of memory. */
function word({ memory }: Threads, address: number): number {
  return new Uint32Array(memory.buffer)[address / 4]!;
}

function lockOf({ memory }: Threads): number {
  return findState(memory.buffer)! + LAYOUT.LOCK;
}

/** The number of thread caches. */
function cachesOf(threads: Threads): number {
  let count = 0;
  const first = word(threads, findState(threads.memory.buffer)! + LAYOUT.STATE_CACHES);
  for (let cache = first; cache !== 0; cache = word(threads, cache + LAYOUT.CACHE_RESERVE)) count += 1;
  return count;
}

/** Frees the blocks that threads left for each other, and checks that nothing is in use. */
function checkEmpty(threads: Threads): void {
  threads.exports.drain!();
  threads.exports.rsbmalloc_thread_end!();
  threads.check();
}

for (const variant of VARIANTS) {
  const module = (pages: number, flags: readonly string[] = []) =>
    buildThreaded(variant, [PROGRAM], pages, { flags });

  for (const count of [1, 2, 3, 8, 16]) {
    test(`${variant}: random calls of ${count} threads succeed, and each can free the others' blocks`, async () => {
      const threads = startThreads(await module(PLENTY), PLENTY);
      const calls = Math.ceil((60_000 * LENGTH) / count);
      const work = counts(count).map((index) => threads.run([["stress", index + 1, calls], THREAD_END]));
      for (const [failed] of await Promise.all(work)) assert.is(failed, 0);
      checkEmpty(threads);
    });
  }

  test(`${variant}: after threads have run out of memory, one thread can use what others freed`, async () => {
    const pages = 40;
    const threads = startThreads(await module(pages), pages);
    const work = counts(4).map((index) =>
      threads.run([
        ["stress", index + 1, 8000 * LENGTH],
        ["exhaust", 100 + 5000 * index],
        ["stress", index + 5, 8000 * LENGTH],
        THREAD_END,
      ]),
    );
    const results = await Promise.all(work);
    assert.ok(
      results.some(([first, , second]) => first! + second! > 0),
      "no call failed: memory was never out",
    );
    checkEmpty(threads);
    // A new thread gets a large block from what the others freed.
    const [blocks] = await threads.run([["exhaust", pages * WASM_PAGE * 0.1], THREAD_END]);
    assert.ok(blocks! >= 1, "malloc of a tenth of the memory failed");
    threads.check();
  });

  const pair = (queue: number, blocks: number): Call[][] => [
    [["produce", queue, 1, blocks, 2000], THREAD_END],
    [["consume", queue, blocks, 0, 1], THREAD_END],
  ];
  const ring = (members: number, blocks: number): Call[][] =>
    counts(members).map((at) => [["pass", at, (at + 1) % members, at + 1, blocks], THREAD_END]);

  /**
   * Ways in which threads pass blocks: the calls of each thread, the number of queues, and how many blocks (of 1,000 bytes
   * on average) are in each queue at most.
   */
  const FLOWS: Readonly<
    Record<string, { queues: number; underWay: number; threads: (blocks: number) => Call[][] }>
  > = {
    "one thread allocates and another frees": {
      queues: 1,
      underWay: QUEUE,
      threads: (blocks) => pair(0, blocks),
    },
    "one thread allocates and three others free": {
      queues: 1,
      underWay: QUEUE,
      threads: (blocks) => [
        [["produce", 0, 1, blocks, 2000], THREAD_END],
        ...counts(3).map((first): Call[] => [["consume", 0, blocks, first, 3], THREAD_END]),
      ],
    },
    "three pairs pass blocks": {
      queues: 3,
      underWay: QUEUE,
      threads: (blocks) => counts(3).flatMap((queue) => pair(queue, blocks / 3)),
    },
    "two threads pass blocks to each other": {
      queues: 2,
      underWay: QUEUE / 2,
      threads: (blocks) => ring(2, blocks / 2),
    },
    "seven threads pass blocks around a ring": {
      queues: 7,
      underWay: QUEUE / 2,
      threads: (blocks) => ring(7, blocks / 7),
    },
  };
  for (const [name, { queues, underWay, threads: flow }] of Object.entries(FLOWS)) {
    test(`${variant}: memory stays bounded while ${name}`, async () => {
      const threads = startThreads(await module(PLENTY), PLENTY);
      const round = () => Promise.all(flow(210_000 * LENGTH).map((calls) => threads.run(calls)));
      // Fills every queue once, and empties it: whether that happens while both of its threads run is left to chance.
      const all = (calls: (queue: number) => Call) =>
        Promise.all(counts(queues).map((queue) => threads.run([calls(queue), THREAD_END])));
      await all((queue) => ["produce", queue, 1, underWay, 2000]);
      await all((queue) => ["consume", queue, underWay, 0, 1]);
      // After these rounds the caches have grown to their limits.
      for (let settling = 0; settling < 3; settling++) await round();
      // The blocks in the queues, and the caches and partly used bins.
      assert.ok(threads.size() < (2 + 2 * queues) * MIB, `memory has grown to ${threads.size()} bytes`);
      const before = threads.size();
      await round();
      assert.ok(
        threads.size() <= before + 4 * WASM_PAGE,
        `memory grew from ${before} to ${threads.size()} bytes in one more round`,
      );
      checkEmpty(threads);
    });
  }

  test(`${variant}: threads can make their first calls while others make memory grow`, async () => {
    const built = await module(PLENTY);
    for (let round = 0; round < 40; round++) {
      const threads = startThreads(built, PLENTY);
      const work = counts(3).map((index) => threads.run([["stress", index + 1, 300], THREAD_END]));
      for (const [failed] of await Promise.all(work)) assert.is(failed, 0);
      checkEmpty(threads);
    }
  });

  test(`${variant}: malloc_usable_size works while another thread moves the page map`, async () => {
    const built = await module(PLENTY);
    for (let round = 0; round < 4 * LENGTH; round++) {
      const threads = startThreads(built, PLENTY);
      const work = counts(3).map(() => threads.run([["watch", 3], THREAD_END]));
      await allAtWork(threads, 3);
      const map = () => word(threads, findState(threads.memory.buffer)! + LAYOUT.STATE_MAP);
      threads.exports.visit!(1);
      const before = map();
      // The page map grows from less than a MiB of memory to a quarter of a GiB, and moves.
      assert.ok(threads.exports.show!(MIB) > 240);
      assert.is.not(map(), before);
      threads.exports.stop!();
      await Promise.all(work);
      threads.exports.hide!();
      checkEmpty(threads);
    }
  });

  test(`${variant}: threads that already run can free blocks in memory that another thread has just added`, async () => {
    const threads = startThreads(await module(PLENTY), PLENTY);
    const blocks = 900;
    const work = counts(3).map((first) =>
      threads.run([["arrive"], ["consume", 0, blocks, first, 3], THREAD_END]),
    );
    await allAtWork(threads, 3);
    const before = threads.size();
    threads.exports.produce!(0, 1, blocks, 300_000);
    await Promise.all(work);
    assert.ok(threads.size() > before);
    checkEmpty(threads);
  });

  test(`${variant}: memory stays bounded when ten thousand threads come and go`, async () => {
    const threads = startThreads(await module(PLENTY), PLENTY);
    const visits: Call[] = [["visit", 1], THREAD_END];
    await threads.run(visits, 10);
    const before = threads.size();
    await Promise.all([threads.run(visits, 5000), threads.run(visits, 5000)]);
    assert.ok(
      threads.size() <= before + 4 * WASM_PAGE,
      `memory grew from ${before} to ${threads.size()} bytes`,
    );
    checkEmpty(threads);
  });

  test(`${variant}: memory stays bounded though threads never call rsbmalloc_thread_end`, async () => {
    const threads = startThreads(await module(PLENTY), PLENTY);
    await threads.run([["visit", 1]], 100);
    // Each thread that does not report its end keeps a cache, until there are no more caches.
    const before = threads.size();
    await threads.run([["visit", 1]], 900);
    assert.ok(
      threads.size() <= before + 4 * WASM_PAGE,
      `memory grew from ${before} to ${threads.size()} bytes`,
    );
  });

  test(`${variant}: other threads go on when a thread is killed that does not hold the lock`, async () => {
    const built = await module(PLENTY);
    let threads = startThreads(built, PLENTY);
    let outside = 0;
    for (let round = 0, begun = 0; outside < 20 && round < 400; round++) {
      const killed = threads.begin([["churn", round + 1, 0]]);
      await allAtWork(threads, ++begun);
      await sleep(round % 5);
      await killed.kill();
      // If it was killed while it held the lock, the heap is unusable (docs/threads.md): try again with a new one.
      if (word(threads, lockOf(threads)) !== FREE) {
        threads = startThreads(built, PLENTY);
        begun = 0;
        continue;
      }
      outside += 1;
      const [failed] = await threads.run([["stress", round + 1000, 2000], THREAD_END]);
      assert.is(failed, 0);
      threads.check("any");
    }
    assert.is(outside, 20);
  });

  test(`${variant}: a thread that needs the lock sleeps until it is released`, async () => {
    const threads = startThreads(await module(PLENTY, ["-DWASI_THREADS"]), PLENTY);
    const calls = 1000;
    const [small, large] = [24, 100_000].map((size) => threads.begin([["at_stop", size, calls, 2]]));
    await allAtWork(threads, 2);
    const at = lockOf(threads) / 4;
    const words = new Int32Array(threads.memory.buffer);
    // The lock is now as a thread leaves it that is killed while it holds it.
    assert.is(Atomics.exchange(words, at, HELD), FREE);
    threads.exports.stop!();
    // A thread whose blocks all come from its cache does not need the lock: it must end although the lock is held.
    if (variant === "mt") {
      const patience = sleep(60_000, undefined, { ref: false });
      const ended = await Promise.race([small!.results, patience]);
      if (!ended) await Promise.all([small!.kill(), large!.kill()]);
      assert.equal(ended, [calls]);
    }
    while (Atomics.load(words, at) !== CONTENDED) await sleep(1);
    Atomics.store(words, at, FREE);
    Atomics.notify(words, at, 1);
    for (const { results } of [small!, large!]) assert.is((await results)[0], calls);
    threads.check("any");
  });

  test(`${variant}: in a wasi-threads program, thread-specific values report the threads' ends, and errno is per thread`, async () => {
    const threads = startThreads(await module(PLENTY, ["-DWASI_THREADS"]), PLENTY);
    assert.equal(await threads.run([["spawn_all", 6, 10_000]]), [0]);
    // Ten times as many threads as there are caches.
    for (let round = 0; round < 10; round++) await threads.run([["spawn_all", 16, 100]]);
    checkEmpty(threads);
  });

  test(`${variant}: a program without threads can use the library`, async () => {
    const threads = startThreads(await module(PLENTY), PLENTY);
    assert.is(threads.exports.stress!(1, 5000), 0);
    checkEmpty(threads);
  });
}

test("a program can set the number of cores, and more threads than caches share those", async () => {
  const sources = [PROGRAM, "wasi-tests/programs/threads-cores.c"];
  const threads = startThreads(await buildThreaded("mt", sources, PLENTY), PLENTY);
  // With threads-cores.c there is one core, for which there are four caches. From the fifth thread on, no thread owns one.
  const work = counts(6).map((index) => threads.run([["stress", index + 1, 3000]]));
  for (const [failed] of await Promise.all(work)) assert.is(failed, 0);
  const [failed] = await threads.run([["stress", 7, 1000], THREAD_END]);
  assert.is(failed, 0);
  assert.is(cachesOf(threads), 4);
});

test("realloc uses free slots in batches before it grows memory", async () => {
  const exported = ["rsbmalloc", "rsbfree", "rsbrealloc"];
  const threads = startThreads(await buildThreaded("mt", [], PLENTY, { exported }), PLENTY);
  const { rsbmalloc, rsbfree, rsbrealloc } = threads.exports;
  const blocks = counts(80_000).map(() => rsbmalloc!(250));
  let last = rsbmalloc!(40_000);
  const before = threads.size();
  for (const block of blocks) rsbfree!(block);
  for (let size = 50_000; size < 10 * MIB; size *= 1.25) last = rsbrealloc!(last, size);
  assert.is.not(last, 0);
  assert.is(threads.size(), before);
});

test("malloc of a large block uses the free slots in the thread's own cache before it grows memory", async () => {
  const exported = ["rsbmalloc", "rsbfree"];
  const threads = startThreads(await buildThreaded("mt", [], PLENTY, { exported }), PLENTY);
  const { rsbmalloc, rsbfree } = threads.exports;
  // Of each size, about as many blocks as a cache has room for.
  const sizes = counts(16).map((index) => 120 * (index + 1));
  const blocks = sizes.flatMap((size) => counts(Math.floor(12_000 / size)).map(() => rsbmalloc!(size)));
  const before = threads.size();
  for (const block of blocks) rsbfree!(block);
  assert.is.not(rsbmalloc!(150_000), 0);
  assert.is(threads.size(), before);
});

test("a program's first call may be malloc of a large block, when linear memory is still all zero", async () => {
  const exported = ["rsbmalloc"];
  const threads = startThreads(await buildThreaded("mt", [], PLENTY, { exported }), PLENTY);
  assert.is.not(threads.exports.rsbmalloc!(100_000), 0);
});

test("a thread's first call uses the last free page for its block, not for a cache", async () => {
  const exported = ["rsbmalloc", "rsbpage_alloc", "rsbpage_free"];
  const pages = 8;
  const built = await buildThreaded("mt", [], pages, { exported });
  const threads = startThreads(built, pages);
  const { rsbpage_alloc, rsbpage_free } = threads.exports;
  const blocks: number[] = [];
  for (let block; (block = rsbpage_alloc!(PAGE, 1)) !== 0;) blocks.push(block);
  rsbpage_free!(blocks[9]!);
  assert.is.not(threads.another().rsbmalloc!(64), 0);
});

for (const variant of [...VARIANTS, "mt-hardened"] as const) {
  test(`${variant}: a thread that traps in the allocator releases the lock`, async () => {
    const exported = ["rsbmalloc", "rsbfree", "rsbpage_alloc", "__stack_pointer"];
    const threads = startThreads(await buildThreaded(variant, [PROGRAM], PLENTY, { exported }), PLENTY);
    threads.exports.rsbmalloc!(1);
    // No block starts at 8, nor right behind memory. The second call, which takes the slow path, notices that at the
    // latest.
    for (const address of [8, threads.memory.buffer.byteLength + 16]) {
      const wrong = threads.run([
        ["rsbfree", address],
        ["rsbmalloc", 50_000],
      ]);
      assert.match(String(await rejection(wrong)), /unreachable/);
      const layout = variant === "mt-hardened" ? HARDENED_LAYOUT : LAYOUT;
      assert.is(word(threads, findState(threads.memory.buffer, layout)! + layout.LOCK), FREE);
    }
  });
}

test("mt: a slot freed twice, which makes a list of slots endless, traps instead of keeping the lock", async () => {
  const exported = ["rsbmalloc", "rsbfree", "rsbpage_alloc", "rsbmalloc_check", "__stack_pointer"];
  const module = await buildThreaded("mt", [PROGRAM], PLENTY, { exported });
  // Each of the larger slots is a batch of its own; the others were first in a thread's cache.
  for (const [size, count] of [
    [5000, 1],
    [100, 40],
  ] as const) {
    const threads = startThreads(module, PLENTY);
    const blocks = counts(count).map(() => threads.exports.rsbmalloc!(size));
    const frees = [...blocks, ...blocks, ...blocks].map((block): Call => ["rsbfree", block]);
    // A thread that only frees would have no cache.
    const wrong = threads.begin([["rsbmalloc", size], ...frees, ["rsbmalloc_check"]]);
    const patience = sleep(60_000, "nothing", { ref: false });
    const outcome = await Promise.race([rejection(wrong.results), patience]);
    if (outcome === "nothing") await wrong.kill();
    assert.match(String(outcome), /unreachable/);
    assert.is(word(threads, lockOf(threads)), FREE);
  }
});

test("a free after a thread's destructors neither gives the thread a cache nor damages the heap", async () => {
  const sources = ["threads-last-free.c", "threads-cores.c"].map((file) => `wasi-tests/programs/${file}`);
  const threads = startThreads(await buildThreaded("mt", sources, PLENTY), PLENTY);
  const ending = threads.another();
  ending.allocate!();
  await threads.run([["allocate"]], 3);
  threads.exports.begin!();
  // Now a cache is spare.
  ending.rsbmalloc_thread_end!();
  const before = threads.exports.registrations!();
  threads.exports.end!();
  threads.exports.rsbmalloc_check!();
  threads.check("any");
  assert.is(threads.exports.registrations!(), before);
});

test("the library without threads does not link into a program with shared memory", async () => {
  const compiler = await findCompiler();
  const link = build(compiler, {
    target: "none",
    inputs: [PROGRAM, library("wasm32-wasi")],
    flags: ["-matomics", "-mbulk-memory"],
    includes: ["include"],
    linkFlags: sharedMemory(PLENTY),
  });
  const error = await rejection(link);
  assert.instance(error, CompileError);
  assert.match((error as CompileError).messages, /--shared-memory is disallowed by .*rsbmallocc\.o/);
});

test.run();
