/** Threads on a shared memory, without a C library: a worker for each, with an instance of its own. */
import { readFile } from "node:fs/promises";
import path from "node:path";
import { Worker } from "node:worker_threads";
import { ROOT } from "../tools/command.ts";
import { build, findCompiler } from "../tools/compiler.ts";
import { LAYOUT, checkHeap } from "./heap-check.ts";

export const VARIANTS = ["locked", "mt"] as const;
export type Variant = (typeof VARIANTS)[number];

const WORKER = path.join(ROOT, "wasi-tests", "programs", "thread-worker.mjs");
const WASM_PAGE = 65536;
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
/** What caches and old page maps of the tests' heaps take at most, in pages. */
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

type Functions = Readonly<Record<string, (...args: number[]) => number>>;

export interface Threads {
  readonly memory: WebAssembly.Memory;
  /** The main thread's instance, which has the module's own stack. */
  readonly exports: Functions;
  /** Makes calls in a new thread, one after the other, each time in `instances` new instances. Returns their results. */
  run(calls: readonly Call[], instances?: number): Promise<number[]>;
  /** Checks the heap when no thread is at work. `foreign` is memory that others took, as [from, to). */
  check(live?: readonly number[], foreign?: readonly (readonly [number, number])[]): void;
  /** Bytes of linear memory. */
  size(): number;
}

/** A program at its start, on a memory of `pages` at most. */
export function startThreads(module: WebAssembly.Module, pages: number): Threads {
  const initial = 4;
  const memory = new WebAssembly.Memory({ initial, maximum: pages, shared: true });
  const nextId = new Int32Array(new SharedArrayBuffer(4)).fill(1);
  const cannotSpawn = () => -1;
  const instance = new WebAssembly.Instance(module, {
    env: { memory },
    wasi: { "thread-spawn": cannotSpawn },
  });
  const exports = instance.exports as unknown as Functions;
  const work = (data: object): Promise<number[]> =>
    new Promise((resolve, reject) => {
      const worker = new Worker(WORKER, { workerData: { module, memory, nextId, ...data }, execArgv: [] });
      let results: number[] | undefined;
      worker.on("message", (message: number[]) => (results = message));
      worker.on("error", reject);
      worker.on("exit", (code) =>
        results ? resolve(results) : reject(new Error(`a thread ended with ${code}`)),
      );
    });
  return {
    memory,
    exports,
    async run(calls, instances = 1) {
      const stack = exports.rsbpage_alloc!(STACK, 16);
      const results = await work({ calls, instances, stack: stack + STACK });
      exports.rsbpage_free!(stack);
      return results;
    },
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
      if (at !== undefined) checkHeap(copy, at, { live, foreign, unknown: UNKNOWN_PAGES });
    },
    size: () => memory.buffer.byteLength,
  };
}

/** The state is no public symbol: its magic number tells where it is, once the heap has started. */
function findState(memory: ArrayBuffer): number | undefined {
  const at = new Uint32Array(memory).indexOf(LAYOUT.MAGIC);
  return at < 0 ? undefined : 4 * at - LAYOUT.STATE_MAGIC;
}
