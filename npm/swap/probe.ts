/**
 * Tries a module's own malloc in a throw-away instance, to find out what names cannot tell: which malloc it is, where its
 * heap starts, where sbrk keeps the break, where errno is, and whether the heap is unused.
 */
import vm from "node:vm";
import binaryen from "binaryen";
import { functionsOf, globalsOf, tablesOf } from "../binaryen.ts";
import { reasonOf } from "../errors.ts";
import { ENOMEM } from "../index.ts";
import { WASM_PAGE } from "../webassembly.ts";

export type Allocator = "dlmalloc" | "emmalloc";

/** Addresses in linear memory, in bytes. */
export interface Findings {
  readonly allocator: Allocator;
  /** Where the module's data end and the heap starts; at most `memorySize`. */
  readonly heapStart: number;
  /** Initial size of linear memory. */
  readonly memorySize: number;
  /** Where a sbrk keeps a break that it moves by any number of bytes; 0 if there is none. */
  readonly breakAddress: number;
  /** Address of errno; 0 if there is none. */
  readonly errno: number;
}

/** Names of exports that exist only for the trial. */
export const TRIED = {
  memory: "rsbmalloc:memory",
  constructor: "rsbmalloc:constructor",
  malloc: "rsbmalloc:malloc",
  free: "rsbmalloc:free",
  sbrk: "rsbmalloc:sbrk",
  errno: "rsbmalloc:errno",
} as const;

type Tried = keyof Omit<typeof TRIED, "memory">;

/**
 * Both mallocs use 32 bytes for a block of this size. In the word before it, emmalloc stores that size, and dlmalloc sets
 * two more bits.
 */
const SAMPLE_SIZE = 24;
const MARKS: ReadonlyMap<number, Allocator> = new Map([
  [32 | 3, "dlmalloc"],
  [32, "emmalloc"],
]);

/** How far to move the break, in bytes: every break is aligned to this. */
const STEP = 16;
/** A request that no memory can satisfy twice, in bytes. */
const TOO_MUCH = 0x7fff0000;
/** Upper bound, in bytes, for the header and the alignment gap before a block of dlmalloc or emmalloc. */
const HEADERS = 128;
/** In milliseconds. Only a damaged module takes longer. */
const TIME_LIMIT = 10_000;

/**
 * `bytes` is the module with those exports of TRIED whose functions were found. `hasNames` says whether it has function
 * names, so that a missing export means a missing function. Throws a one-line Error if its malloc does not behave like one
 * whose program has just been loaded.
 */
export function probe(bytes: Uint8Array<ArrayBuffer>, module: binaryen.Module, hasNames: boolean): Findings {
  const compiled = new WebAssembly.Module(bytes);
  const [fresh, used] = [start(compiled, module), start(compiled, module)];
  try {
    // Of Node's ways to stop code that runs forever, this one needs no other thread.
    return vm.runInNewContext(
      "tried()",
      { tried: () => tryOut(fresh, used, hasNames) },
      { timeout: TIME_LIMIT },
    );
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ERR_SCRIPT_EXECUTION_TIMEOUT") throw error;
    throw new Error(
      `its malloc did not return within ${TIME_LIMIT / 1000} seconds: the file may be damaged, link it again`,
      { cause: error },
    );
  }
}

interface Instance {
  readonly memory: WebAssembly.Memory;
  readonly functions: Readonly<Partial<Record<Tried, (...args: number[]) => number>>>;
}

function start(compiled: WebAssembly.Module, module: binaryen.Module): Instance {
  try {
    const { exports } = new WebAssembly.Instance(compiled, standIns(module));
    const functions = Object.entries(TRIED).map(([name, exported]) => [name, exports[exported]]);
    return { memory: exports[TRIED.memory] as WebAssembly.Memory, functions: Object.fromEntries(functions) };
  } catch (error) {
    throw new Error(
      `the module does not start without its host (${reasonOf(error)}): link it with rsbmalloc instead`,
      { cause: error },
    );
  }
}

function tryOut(fresh: Instance, used: Instance, hasNames: boolean): Findings {
  const trial = compare(fresh, used);
  const { functions, call, view } = trial;
  const memorySize = fresh.memory.buffer.byteLength;
  const found = findBreak(trial);

  if (functions.constructor) call("constructor");
  const block = call("malloc", SAMPLE_SIZE);
  if (block === 0 || block + SAMPLE_SIZE > used.memory.buffer.byteLength)
    throw new Error("its malloc has no memory at the start: link it with a larger initial memory");
  const heapStart = Math.min(found?.value ?? block, memorySize);
  const breakAddress = found?.address ?? 0;
  if (isInUse(trial, heapStart, breakAddress)) throw new Error(LIVE);

  // emmalloc sets up its lists in a constructor, which can be identified only by name.
  const allocator = allocatorOf(
    view().getUint32(block - 4, true),
    hasNames || functions.constructor !== undefined,
  );
  call("free", block);
  if (call("malloc", SAMPLE_SIZE) !== block)
    throw new Error(
      "its free does not free what its malloc allocated: name the right functions with --function",
    );
  return { allocator, heapStart, memorySize, breakAddress, errno: findErrno(trial) };
}

/** An instance for trying functions, and the changes that they make to its memory. */
interface Trial {
  readonly functions: Instance["functions"];
  /** Throws a one-line Error if the function traps. */
  readonly call: (name: Tried, ...args: number[]) => number;
  readonly view: () => DataView;
  /** The words of the memory before any call. */
  readonly before: Uint32Array;
  /** Returns the addresses of the words that differ from `before`. */
  readonly changed: () => number[];
}

function compare(fresh: Instance, { memory, functions }: Instance): Trial {
  const before = new Uint32Array(fresh.memory.buffer);
  return {
    functions,
    call(name, ...args) {
      try {
        return functions[name]!(...args) >>> 0;
      } catch (error) {
        throw new Error(
          `its ${name} fails in a fresh instance (${reasonOf(error)}): ` +
            "name the right function with --function, and for emmalloc also initialize_emmalloc_heap",
          { cause: error },
        );
      }
    },
    view: () => new DataView(memory.buffer),
    before,
    changed: () => changes(before, new Uint32Array(memory.buffer, 0, before.length)).map((i) => i * 4),
  };
}

/** Returns the word that determines what sbrk returns, and the break in it, which is left unchanged. */
function findBreak({ functions, view, changed }: Trial) {
  const { sbrk } = functions;
  const old = sbrk && tryQuietly(sbrk, STEP);
  if (old === undefined) return undefined;
  const address = changed().find((each) => {
    if (view().getUint32(each, true) !== old + STEP) return false;
    view().setUint32(each, old, true);
    return tryQuietly(sbrk!, 0) === old;
  });
  return address ? { address, value: old } : undefined;
}

/** Returns whether the first malloc changed existing data, or whether the heap was not empty at the start. */
function isInUse({ before, changed }: Trial, heapStart: number, breakAddress: number): boolean {
  const isBreak = (old: number) => old > heapStart - HEADERS && old <= heapStart + HEADERS;
  const touched = changed().some((address) => {
    const old = before[address / 4]!;
    return old !== 0 && address !== breakAddress && !isBreak(old);
  });
  return touched || before.subarray(Math.ceil(heapStart / 4)).some((each) => each !== 0);
}

/** Returns the allocator that marks blocks like that. `isComplete`: if it has a constructor, that was called. */
function allocatorOf(mark: number, isComplete: boolean): Allocator {
  const allocator = MARKS.get(mark);
  if (allocator) return allocator;
  throw new Error(
    isComplete
      ? "its malloc is neither dlmalloc nor emmalloc: link it with rsbmalloc instead"
      : "its malloc is not dlmalloc, and without function names it is unknown whether it is emmalloc: link it with names (emcc --profiling-funcs)",
  );
}

/** Returns the address of errno: the one word that becomes ENOMEM when a request fails; 0 if there is no such word. */
function findErrno({ functions, call, view, changed }: Trial): number {
  if (functions.errno) return call("errno");
  const failed = () => changed().filter((address) => view().getUint32(address, true) === ENOMEM);
  for (let tries = 0; tries < 3; tries++) {
    const earlier = new Set(failed());
    const result = tryQuietly(functions.malloc!, TOO_MUCH);
    if (result === undefined) return 0;
    if (result !== 0) continue;
    const set = failed().filter((address) => !earlier.has(address));
    return set.length === 1 ? set[0]! : 0;
  }
  return 0;
}

const LIVE =
  "its heap is already in use: this is a snapshot of a program that has run (Wizer, EVAL_CTORS); replace the malloc before taking the snapshot";

/** Returns the result of a function, or undefined if it traps. */
function tryQuietly(action: (argument: number) => number, argument: number): number | undefined {
  try {
    return action(argument) >>> 0;
  } catch {
    return undefined;
  }
}

/** Returns the indices at which the two differ. */
function changes(before: Uint32Array, after: Uint32Array): number[] {
  const indices: number[] = [];
  for (let page = 0; page < before.length; page += WASM_PAGE / 4) {
    const [old, now] = [
      before.subarray(page, page + WASM_PAGE / 4),
      after.subarray(page, page + WASM_PAGE / 4),
    ];
    if (Buffer.compare(asBytes(old), asBytes(now)) === 0) continue;
    for (let i = 0; i < old.length; i++) if (old[i] !== now[i]) indices.push(page + i);
  }
  return indices;
}

function asBytes({ buffer, byteOffset, byteLength }: Uint32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** Returns imports that do nothing. They return 0, which refuses requests for more memory. */
function standIns(module: binaryen.Module): WebAssembly.Imports {
  const imports: Record<string, Record<string, WebAssembly.ImportValue>> = {};
  const add = (
    { module: from, base }: { module: string | null; base: string | null },
    value: WebAssembly.ImportValue,
  ) => {
    if (from) (imports[from] ??= {})[base!] = value;
  };
  for (const info of functionsOf(module)) {
    const [result] = binaryen.expandType(info.results);
    add(info, () => (result === binaryen.i64 ? 0n : 0));
  }
  for (const info of globalsOf(module)) {
    const value = TYPES.get(info.type) ?? "i32";
    if (info.module)
      add(info, new WebAssembly.Global({ value, mutable: info.mutable }, value === "i64" ? 0n : 0));
  }
  for (const info of tablesOf(module))
    add(info, new WebAssembly.Table({ element: "anyfunc", initial: info.initial, ...limit(info.max) }));
  const memory = module.getMemoryInfo();
  if (memory.module) add(memory, new WebAssembly.Memory({ initial: memory.initial, ...limit(memory.max) }));
  return imports;
}

function limit(maximum: number | undefined): { maximum?: number } {
  return maximum === undefined || maximum > WASM_PAGE ? {} : { maximum };
}

const TYPES: ReadonlyMap<binaryen.Type, WebAssembly.ValueType> = new Map([
  [binaryen.i32, "i32"],
  [binaryen.i64, "i64"],
  [binaryen.f32, "f32"],
  [binaryen.f64, "f64"],
]);
