/** Threads on a shared memory, without a C library: each thread is a worker with its own instance. */
import { readFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import type { RawExports } from "../npm/index.ts";
import { WASM_PAGE } from "../npm/webassembly.ts";
import { ROOT } from "../tools/command.ts";
import { build, findCompiler } from "../tools/compiler.ts";
import { library } from "../tools/libraries.ts";
import { LAYOUT, checkHeap } from "./heap-check.ts";

export const VARIANTS = ["locked", "mt"] as const;
export type Variant = (typeof VARIANTS)[number] | "mt-hardened";
/** The stress tests run this many times as long, for a machine with time to spare. */
export const LENGTH = Number(process.env.RSB_STRESS ?? 1);

/** The program that the threads run. */
export const PROGRAM = "wasi-tests/programs/threads.c";
/** The number of wasm pages in 1 GiB. */
export const PLENTY = 16384;

const WORKER = path.join(ROOT, "wasi-tests", "programs", "thread-worker.mjs");
const STACK = 65536;
/** The size of memory at the start, in wasm pages. */
const INITIAL_PAGES = 4;
const FEATURES = ["-matomics", "-mbulk-memory", "-mmutable-globals"];
const EXPORTED = [
  "__heap_base",
  "__heap_end",
  "__stack_pointer",
  "rsbmallinfo",
  "rsbpage_alloc",
  "rsbpage_free",
  "rsbmalloc_thread_end",
  "rsbmalloc_check",
];
/** The most pages that thread caches take in these tests, plus what is lost around old page maps while they are small. */
const UNKNOWN_PAGES = 80;

/** Linker flags for a module on shared memory. */
export function sharedMemory(pages: number): string[] {
  return ["--shared-memory", "--import-memory", `--max-memory=${pages * WASM_PAGE}`].map(
    (flag) => `-Wl,${flag}`,
  );
}

/** Links `sources`, of which there may be none, with a library for threads. Exports every name in `exported`. */
export async function buildThreaded(
  variant: Variant,
  sources: readonly string[],
  pages: number,
  { exported = EXPORTED, flags = [] }: { exported?: readonly string[]; flags?: readonly string[] } = {},
): Promise<WebAssembly.Module> {
  const file = await build(await findCompiler(), {
    target: "none",
    inputs: [...sources, library("wasm32-wasi-threads", variant)],
    flags: ["-O2", "-fno-builtin", ...FEATURES, ...flags],
    includes: ["include"],
    linkFlags: [...sharedMemory(pages), ...exported.map((name) => `-Wl,--export=${name}`)],
  });
  return WebAssembly.compile(await readFile(file));
}

/** A call of an exported function: its name and arguments. */
export type Call = readonly [name: string, ...args: number[]];

/** A thread's last call: it tells the allocator that the thread ends. */
export const THREAD_END: Call = ["rsbmalloc_thread_end"];

/** The numbers from 0 up to, but not including, `to`. */
export const counts = (to: number): number[] => Array.from({ length: to }, (_, index) => index);

export interface Thread {
  /** The results of its calls. Rejected if the thread traps or is killed; a trap ends the program's other threads too. */
  readonly results: Promise<number[]>;
  /** Ends the thread at once, whatever it is doing. */
  kill(): Promise<void>;
}

export interface Threads {
  readonly memory: WebAssembly.Memory;
  /** The exports of the main thread's instance, which uses the module's own stack. */
  readonly exports: RawExports;
  /** Makes another instance on the main thread, with the same stack: only one of them may be inside a call at a time. */
  another(): RawExports;
  /** Starts a thread that makes these calls in order, in each of `instances` new instances. Returns their results. */
  run(calls: readonly Call[], instances?: number): Promise<number[]>;
  /** Like `run` with one instance, but returns a thread that can be killed. Its stack is not freed. */
  begin(calls: readonly Call[]): Thread;
  /**
   * Checks the heap while no thread runs: exactly the blocks in `live` must be in use, unless it is "any". `foreign`
   * are ranges [from, to) that others took.
   */
  check(live?: readonly number[] | "any", foreign?: readonly (readonly [number, number])[]): void;
  /** Bytes of linear memory. */
  size(): number;
}

/** Starts a program on a memory of at most `pages` wasm pages. The host's random bytes all have the value `secret`. */
export function startThreads(module: WebAssembly.Module, pages: number, secret = 1): Threads {
  const memory = new WebAssembly.Memory({ initial: INITIAL_PAGES, maximum: pages, shared: true });
  const nextId = new Int32Array(new SharedArrayBuffer(4)).fill(1);
  const cannotSpawn = () => -1;
  const random_get = (at: number, count: number): number => {
    new Uint8Array(memory.buffer, at, count).fill(secret);
    return 0;
  };
  const imports = {
    env: { memory },
    wasi: { "thread-spawn": cannotSpawn },
    wasi_snapshot_preview1: { random_get },
  };
  const instance = new WebAssembly.Instance(module, imports);
  const exports = instance.exports as unknown as RawExports;
  const workers = new Set<Worker>();
  const work = (data: object): Thread => startWorker({ module, memory, nextId, secret, ...data }, workers);
  const newStack = (): number => {
    const stack = exports.rsbpage_alloc!(STACK, 16);
    if (stack === 0) throw new Error("no memory for a thread's stack");
    return stack;
  };
  return {
    memory,
    exports,
    another: () => new WebAssembly.Instance(module, imports).exports as unknown as RawExports,
    async run(calls, instances = 1) {
      const stack = newStack();
      const results = await work({ calls, instances, stack: stack + STACK }).results;
      exports.rsbpage_free!(stack);
      return results;
    },
    begin: (calls) => work({ calls, stack: newStack() + STACK }),
    check: (live = [], foreign = []) => checkShared(memory, instance.exports, live, foreign),
    size: () => memory.buffer.byteLength,
  };
}

/** Starts a worker, one of `workers`. If one of them traps, all end: the others might wait for it forever. */
function startWorker(workerData: object, workers: Set<Worker>): Thread {
  const worker = new Worker(WORKER, { workerData, execArgv: [] });
  workers.add(worker);
  const results = new Promise<number[]>((resolve, reject) => {
    let made: number[] | undefined;
    worker.on("message", (message: number[]) => (made = message));
    worker.on("error", (error) => {
      reject(error);
      for (const other of workers) void other.terminate();
    });
    worker.on("exit", (code) => {
      workers.delete(worker);
      if (made) resolve(made);
      else reject(new Error(`a thread ended with ${code}`));
    });
  });
  // A test that kills the thread does not wait for its results.
  results.catch(() => {});
  return { results, kill: async () => void (await worker.terminate()) };
}

/** Checks a heap: see `Threads.check`. */
function checkShared(
  memory: WebAssembly.Memory,
  exports: WebAssembly.Exports,
  live: readonly number[] | "any",
  others: readonly (readonly [number, number])[],
): void {
  const { rsbmalloc_check, in_use } = exports as unknown as RawExports;
  // This returns the slots in this thread's cache and in batches to their runs, where the checker sees them.
  rsbmalloc_check!();
  const copy = new Uint8Array(memory.buffer).slice().buffer;
  const address = (name: string): number => (exports[name] as WebAssembly.Global).value;
  const foreign = [
    ...others,
    [0, address("__heap_base")],
    [address("__heap_end"), INITIAL_PAGES * WASM_PAGE],
  ] as const;
  const at = findState(copy);
  if (at === undefined) {
    // The state of a hardened heap has another magic number. `rsbmalloc_check` has checked that heap.
    if (live.length === 0 && in_use!() > 0) throw new Error("heap: something is in use");
    return;
  }
  const expected = { foreign, unknown: unknownPages(copy, at) };
  checkHeap(copy, at, live === "any" ? expected : { live, ...expected });
}

/** Returns how many pages of a heap for threads may have no owner that the heap's checker knows. */
export function unknownPages(memory: ArrayBufferLike, state: number): number {
  // All old page maps together are no larger than the present one.
  const capacity = new Uint32Array(memory)[(state + LAYOUT.STATE_CAPACITY) / 4]!;
  return UNKNOWN_PAGES + capacity / 2 ** (LAYOUT.PAGE_BITS - 2);
}

/** Waits until `count` threads have arrived in `churn`, `watch` or another function that counts arrivals. */
export async function allAtWork({ exports }: Threads, count: number): Promise<void> {
  while (exports.arrivals!() < count) await sleep(1);
}

/** Finds the address of the state by its magic number, once the heap has started: the state is not a public symbol. */
export function findState(memory: ArrayBufferLike, layout = LAYOUT): number | undefined {
  const at = new Uint32Array(memory).indexOf(layout.MAGIC);
  return at < 0 ? undefined : 4 * at - layout.STATE_MAGIC;
}
