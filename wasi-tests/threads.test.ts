/** The libraries for threads, in modules without a C library whose threads are workers. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { CompileError, build, findCompiler } from "../tools/compiler.ts";
import {
  VARIANTS,
  buildThreaded,
  sharedMemory,
  startThreads,
  threadLibrary,
  type Call,
  type Threads,
} from "./support-threads.ts";

const PROGRAM = "wasi-tests/programs/threads.c";
const WASM_PAGE = 65536;
const MIB = 2 ** 20;
/** 1 GiB. */
const PLENTY = 16384;
const THREAD_END: Call = ["rsbmalloc_thread_end"];
/** Minutes that the stress tests take, by this many times: for a machine with time to spare. */
const LENGTH = Number(process.env.RSB_STRESS ?? 1);

const counts = (to: number): number[] => Array.from({ length: to }, (_, index) => index);

/** Frees what is left for others, and checks that nothing is in use. */
function checkEmpty(threads: Threads): void {
  threads.exports.drain!();
  threads.exports.rsbmalloc_thread_end!();
  threads.check();
}

for (const variant of VARIANTS) {
  const module = (pages: number, flags: readonly string[] = []) =>
    buildThreaded(threadLibrary(variant), [PROGRAM], pages, { flags });

  for (const count of [1, 2, 3, 8, 16]) {
    test(`${variant}: ${count} threads make random calls and free each other's blocks`, async () => {
      const threads = startThreads(await module(PLENTY), PLENTY);
      const calls = Math.ceil((60_000 * LENGTH) / count);
      const work = counts(count).map((index) => threads.run([["stress", index + 1, calls], THREAD_END]));
      for (const [failed] of await Promise.all(work)) assert.is(failed, 0);
      checkEmpty(threads);
    });
  }

  test(`${variant}: threads run out of memory, each by itself and all together`, async () => {
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
      "memory was never out",
    );
    checkEmpty(threads);
    // What one thread has freed is there for another, however large.
    const [blocks] = await threads.run([["exhaust", pages * WASM_PAGE * 0.1], THREAD_END]);
    assert.ok(blocks! >= 1, "no block of a tenth of the memory");
    threads.check();
  });

  test(`${variant}: memory stays bounded when one thread allocates and another frees`, async () => {
    const threads = startThreads(await module(PLENTY), PLENTY);
    const pairs = async (blocks: number) =>
      Promise.all([
        threads.run([["produce", 1, blocks], THREAD_END]),
        threads.run([["consume", blocks], THREAD_END]),
      ]);
    // Long enough that the caches have grown to their limits, and that as many blocks were once under way as ever are.
    for (let round = 0; round < 3; round++) await pairs(200_000 * LENGTH);
    // 1,024 blocks of 1,000 bytes are under way at most; caches and bins that are begun take the rest.
    assert.ok(threads.size() < 4 * MIB, `${threads.size()} bytes`);
    const before = threads.size();
    await pairs(200_000 * LENGTH);
    assert.ok(threads.size() <= before + 4 * WASM_PAGE, `${threads.size()} bytes after ${before}`);
    checkEmpty(threads);
  });

  test(`${variant}: threads start while others make memory grow`, async () => {
    const built = await module(PLENTY);
    for (let round = 0; round < 40; round++) {
      const threads = startThreads(built, PLENTY);
      const work = counts(3).map((index) => threads.run([["stress", index + 1, 300], THREAD_END]));
      for (const [failed] of await Promise.all(work)) assert.is(failed, 0);
      checkEmpty(threads);
    }
  });

  test(`${variant}: memory stays bounded when ten thousand threads come and go`, async () => {
    const threads = startThreads(await module(PLENTY), PLENTY);
    const visits: Call[] = [["visit", 1], THREAD_END];
    await threads.run(visits, 10);
    const before = threads.size();
    await Promise.all([threads.run(visits, 5000), threads.run(visits, 5000)]);
    assert.ok(threads.size() <= before + 4 * WASM_PAGE, `${threads.size()} bytes after ${before}`);
    checkEmpty(threads);
  });

  test(`${variant}: threads that never say that they end cost a cache each, and no more than there are`, async () => {
    const threads = startThreads(await module(PLENTY), PLENTY);
    await threads.run([["visit", 1]], 100);
    const before = threads.size();
    await threads.run([["visit", 1]], 900);
    assert.ok(threads.size() <= before + 4 * WASM_PAGE, `${threads.size()} bytes after ${before}`);
  });

  test(`${variant}: a wasi-threads program tells of its threads' ends, and has an errno for each`, async () => {
    const threads = startThreads(await module(PLENTY, ["-DWASI_THREADS"]), PLENTY);
    const waited = threads.exports.rsbpage_alloc!(4, 4);
    const calls: Call[] = [["spawn_all", 6, 10_000, waited]];
    assert.equal(await threads.run(calls), [0]);
    // Ten times as many threads as there are caches.
    for (let round = 0; round < 10; round++) await threads.run([["spawn_all", 16, 100, waited]]);
    threads.exports.rsbpage_free!(waited);
    checkEmpty(threads);
  });

  test(`${variant}: a program that has no threads can use it`, async () => {
    const threads = startThreads(await module(PLENTY), PLENTY);
    assert.is(threads.exports.stress!(1, 5000), 0);
    checkEmpty(threads);
  });
}

test("the number of cores is the program's to say", async () => {
  const sources = [PROGRAM, "wasi-tests/programs/threads-cores.c"];
  const threads = startThreads(await buildThreaded(threadLibrary("mt"), sources, PLENTY), PLENTY);
  // Four caches. With the fifth thread they are shared, by none of them.
  const work = counts(6).map((index) => threads.run([["stress", index + 1, 3000]]));
  for (const [failed] of await Promise.all(work)) assert.is(failed, 0);
  const [failed] = await threads.run([["stress", 7, 1000], THREAD_END]);
  assert.is(failed, 0);
});

test("the library without threads does not link into a program with shared memory", async () => {
  const compiler = await findCompiler();
  const link = build(compiler, {
    target: "none",
    inputs: [PROGRAM, "lib/wasm32-wasi/librsbmallocc.a"],
    flags: ["-matomics", "-mbulk-memory"],
    includes: ["include"],
    linkFlags: sharedMemory(PLENTY),
  });
  const error = await link.then(
    () => assert.unreachable("it linked"),
    (reason: unknown) => reason,
  );
  assert.instance(error, CompileError);
  assert.match((error as CompileError).messages, /--shared-memory is disallowed by .*rsbmallocc\.o/);
});

test.run();
