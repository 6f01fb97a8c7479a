/** Threads on a shared memory, without a C library: a worker for each, with an instance of its own. */
import { readFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { WASM_PAGE } from "../npm/webassembly.ts";
import { ROOT } from "../tools/command.ts";
import { build, findCompiler } from "../tools/compiler.ts";
import { LAYOUT, checkHeap } from "./heap-check.ts";

export const VARIANTS = ["locked", "mt"] as const;
export type Variant = (typeof VARIANTS)[number] | "mt-hardened";
/** The stress tests take so many times as long: for a machine with time to spare. */
export const LENGTH = Number(process.env.RSB_STRESS ?? 1);

/** What the threads run. */
export const PROGRAM = "wasi-tests/programs/threads.c";
/** Wasm pages of 1 GiB. */
export const PLENTY = 16384;

const WORKER = path.join(ROOT, "wasi-tests", "programs", "thread-worker.mjs");
const STACK = 65536;
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
/** What caches of the tests' heaps take at most, in pages, and what lies about old page maps that are small. */
const UNKNOWN_PAGES = 80;

export function threadLibrary(variant: Variant): string {
  return `lib/wasm32-wasi-threads/librsbmallocc-${variant}.a`;
}

/** Flags of the linker for a module on shared memory. */
export function sharedMemory(pages: number): string[] {
  return ["--shared-memory", "--import-memory", `--max-memory=${pages * WASM_PAGE}`].map(
    (flag) => `-Wl,${flag}`,
  );
}

/** Links `sources`, which may be none, with a library for threads; every name in `exported` becomes an export. */
export async function buildThreaded(
  library: string,
  sources: readonly string[],
  pages: number,
  { exported = EXPORTED, flags = [] }: { exported?: readonly string[]; flags?: readonly string[] } = {},
): Promise<WebAssembly.Module> {
  const file = await build(await findCompiler(), {
    target: "none",
    inputs: [...sources, library],
    flags: ["-O2", "-fno-builtin", ...FEATURES, ...flags],
    includes: ["include"],
    linkFlags: [...sharedMemory(pages), ...exported.map((name) => `-Wl,--export=${name}`)],
  });
  return WebAssembly.compile(await readFile(file));
}

/** A call of an export: its name and arguments. */
export type Call = readonly [name: string, ...args: number[]];

/** What a thread says last. */
export const THREAD_END: Call = ["rsbmalloc_thread_end"];

/** The numbers from 0 on, as many as `to`. */
export const counts = (to: number): number[] => Array.from({ length: to }, (_, index) => index);

type Functions = Readonly<Record<string, (...args: number[]) => number>>;

export interface Thread {
  /** Of its calls. Where a thread traps or is killed this is rejected, and a trap ends the program's other threads. */
  readonly results: Promise<number[]>;
  /** Ends it wherever it is. */
  kill(): Promise<void>;
}

export interface Threads {
  readonly memory: WebAssembly.Memory;
  /** The main thread's instance, which has the module's own stack. */
  readonly exports: Functions;
  /** A second instance on the main thread, with the same stack: calls are to be made by turns. */
  another(): Functions;
  /** Makes calls in a new thread, one after the other, each time in `instances` new instances. Returns their results. */
  run(calls: readonly Call[], instances?: number): Promise<number[]>;
  /** Begins the same, for a thread that can be killed. Its stack stays. */
  begin(calls: readonly Call[]): Thread;
  /**
   * Checks the heap when no thread is at work: the blocks in `live` are in use and no others, or "any". `foreign` is
   * memory that others took, as [from, to).
   */
  check(live?: readonly number[] | "any", foreign?: readonly (readonly [number, number])[]): void;
  /** Bytes of linear memory. */
  size(): number;
}

/** A program at its start, on a memory of `pages` at most. `secret`, a byte, is what the host has for random numbers. */
export function startThreads(module: WebAssembly.Module, pages: number, secret = 1): Threads {
  const initial = 4;
  const memory = new WebAssembly.Memory({ initial, maximum: pages, shared: true });
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
  const exports = instance.exports as unknown as Functions;
  const workers = new Set<Worker>();
  const work = (data: object): Thread => {
    const workerData = { module, memory, nextId, secret, ...data };
    const worker = new Worker(WORKER, { workerData, execArgv: [] });
    workers.add(worker);
    const results = new Promise<number[]>((resolve, reject) => {
      let made: number[] | undefined;
      worker.on("message", (message: number[]) => (made = message));
      worker.on("error", (error) => {
        reject(error);
        // They might wait for this one for ever.
        for (const other of workers) void other.terminate();
      });
      worker.on("exit", (code) => {
        workers.delete(worker);
        if (made) resolve(made);
        else reject(new Error(`a thread ended with ${code}`));
      });
    });
    // Whoever kills it needs no results.
    results.catch(() => {});
    return { results, kill: async () => void (await worker.terminate()) };
  };
  const newStack = (): number => {
    const stack = exports.rsbpage_alloc!(STACK, 16);
    if (stack === 0) throw new Error("no memory for a thread's stack");
    return stack;
  };
  return {
    memory,
    exports,
    another: () => new WebAssembly.Instance(module, imports).exports as unknown as Functions,
    async run(calls, instances = 1) {
      const stack = newStack();
      const results = await work({ calls, instances, stack: stack + STACK }).results;
      exports.rsbpage_free!(stack);
      return results;
    },
    begin: (calls) => work({ calls, stack: newStack() + STACK }),
    check(live = [], others = []) {
      // What this thread's cache and batches hold goes back to the heap, where the checker sees it.
      exports.rsbmalloc_check!();
      const copy = new Uint8Array(memory.buffer).slice().buffer;
      const address = (name: string): number => (instance.exports[name] as WebAssembly.Global).value;
      const foreign = [
        ...others,
        [0, address("__heap_base")],
        [address("__heap_end"), initial * WASM_PAGE],
      ] as const;
      const at = findState(copy);
      if (at === undefined) {
        // A hardened heap has checked itself.
        if (live.length === 0 && exports.in_use!() > 0) throw new Error("heap: something is in use");
        return;
      }
      // Old page maps are no larger than the present one, all together.
      const capacity = new Uint32Array(copy)[(at + LAYOUT.STATE_CAPACITY) / 4]!;
      const expected = { foreign, unknown: UNKNOWN_PAGES + capacity / 2 ** (LAYOUT.PAGE_BITS - 2) };
      checkHeap(copy, at, live === "any" ? expected : { live, ...expected });
    },
    size: () => memory.buffer.byteLength,
  };
}

/** Waits until so many threads have begun with `churn` and its like. */
export async function allAtWork({ exports }: Threads, count: number): Promise<void> {
  while (exports.arrivals!() < count) await sleep(1);
}

/** The state is no public symbol: its magic number tells where it is, once the heap has started. */
export function findState(memory: ArrayBufferLike, layout = LAYOUT): number | undefined {
  const at = new Uint32Array(memory).indexOf(layout.MAGIC);
  return at < 0 ? undefined : 4 * at - layout.STATE_MAGIC;
}
