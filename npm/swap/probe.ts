/**
 * Tries a module's own malloc in an instance that is thrown away, to find out what no name tells: whose malloc it is,
 * where its heap starts, which word sbrk keeps the break in, where errno lies, and whether the heap is as new.
 */
import vm from "node:vm";
import binaryen from "binaryen";
import { functionsOf, globalsOf } from "../binaryen.ts";
import { reasonOf } from "../errors.ts";
import { ENOMEM } from "../index.ts";
import { WASM_PAGE } from "../webassembly.ts";

export type Allocator = "dlmalloc" | "emmalloc";

/** Addresses in linear memory, in bytes. */
export interface Findings {
  readonly allocator: Allocator;
  /** Where the module's own data end and its malloc's memory begins, as far as it is there from the start. */
  readonly heapStart: number;
  /** Linear memory at the start. */
  readonly memorySize: number;
  /** The word in which a sbrk keeps the break that it moves by any number of bytes; 0 if there is none. */
  readonly breakAddress: number;
  /** 0 if there is none. */
  readonly errno: number;
}

/** Exports that are added for as long as it takes. */
export const TRIED = {
  memory: "rsbmalloc:memory",
  constructor: "rsbmalloc:constructor",
  malloc: "rsbmalloc:malloc",
  free: "rsbmalloc:free",
  sbrk: "rsbmalloc:sbrk",
  errno: "rsbmalloc:errno",
} as const;

type Tried = keyof Omit<typeof TRIED, "memory">;

/** A block that both take 32 bytes for, and what each has in the word before it: dlmalloc sets two bits besides. */
const SAMPLE_SIZE = 24;
const MARKS: ReadonlyMap<number, Allocator> = new Map([
  [32 | 3, "dlmalloc"],
  [32, "emmalloc"],
]);

/** By what the break is moved: any break is aligned to that. Bytes. */
const STEP = 16;
/** A request that no memory can satisfy twice. */
const TOO_MUCH = 0x7fff0000;
/** dlmalloc's and emmalloc's headers before a block, and what they leave for alignment, are no larger. */
const HEADERS = 128;
/** Only a damaged module takes longer. Milliseconds. */
const TIME_LIMIT = 10_000;

/**
 * `bytes` is the module with the exports of TRIED, as far as there is what they name; `hasNames` says whether it would have
 * them all. Throws an Error of one line if its malloc does not work as one does in a program that has just been loaded.
 */
export function probe(bytes: Uint8Array<ArrayBuffer>, module: binaryen.Module, hasNames: boolean): Findings {
  const compiled = new WebAssembly.Module(bytes);
  const [fresh, used] = [start(compiled, module), start(compiled, module)];
  try {
    // Of the ways that Node has to stop code which runs forever, this one needs no other thread.
    return vm.runInNewContext(
      "tried()",
      { tried: () => tryOut(fresh, used, hasNames) },
      { timeout: TIME_LIMIT },
    );
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ERR_SCRIPT_EXECUTION_TIMEOUT") throw error;
    throw new Error("its malloc does not return when it is tried: the file may be damaged, link it again", {
      cause: error,
    });
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
      `it cannot be tried without its host (${reasonOf(error)}): link it with rsbmalloc instead`,
      {
        cause: error,
      },
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
    throw new Error("its malloc has no memory to begin with: link it with a larger one");
  const heapStart = Math.min(found?.value ?? block, memorySize);
  const breakAddress = found?.address ?? 0;
  if (isInUse(trial, heapStart, breakAddress)) throw new Error(LIVE);

  // emmalloc makes its lists in a constructor, which nothing but a name tells.
  const allocator = allocatorOf(
    view().getUint32(block - 4, true),
    hasNames || functions.constructor !== undefined,
  );
  call("free", block);
  if (call("malloc", SAMPLE_SIZE) !== block)
    throw new Error("its free does not give back what its malloc gave: name the right ones with --function");
  return { allocator, heapStart, memorySize, breakAddress, errno: findErrno(trial) };
}

/** An instance in which functions are tried, and what they change in its memory. */
interface Trial {
  readonly functions: Instance["functions"];
  /** Throws an Error of one line if the function traps. */
  readonly call: (name: Tried, ...args: number[]) => number;
  readonly view: () => DataView;
  /** The words of the memory as it was. */
  readonly before: Uint32Array;
  /** The addresses of words that are no longer so. */
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
          `its ${name} does not work in a fresh instance (${reasonOf(error)}): ` +
            "name the right one with --function, and initialize_emmalloc_heap if it is emmalloc's",
          { cause: error },
        );
      }
    },
    view: () => new DataView(memory.buffer),
    before,
    changed: () => changes(before, new Uint32Array(memory.buffer, 0, before.length)).map((i) => i * 4),
  };
}

/** The word that decides what sbrk returns, and the break that it held. Leaves it as it was. */
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

/** Whether the first malloc changed what was there before, or something was there already where its heap starts. */
function isInUse({ before, changed }: Trial, heapStart: number, breakAddress: number): boolean {
  const isBreak = (old: number) => old > heapStart - HEADERS && old <= heapStart + HEADERS;
  const touched = changed().some((address) => {
    const old = before[address / 4]!;
    return old !== 0 && address !== breakAddress && !isBreak(old);
  });
  return touched || before.subarray(Math.ceil(heapStart / 4)).some((each) => each !== 0);
}

/** Whose malloc marks a block like that. `isComplete` says that it was tried with all that belongs to it. */
function allocatorOf(mark: number, isComplete: boolean): Allocator {
  const allocator = MARKS.get(mark);
  if (allocator) return allocator;
  throw new Error(
    isComplete
      ? "its malloc is neither dlmalloc nor emmalloc: link it with rsbmalloc instead"
      : "its malloc is not dlmalloc, and without names of functions nobody knows whether it is emmalloc: link it with names (emcc --profiling-funcs)",
  );
}

/** The one word that becomes ENOMEM when a request fails; 0 if none does. */
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
  "its heap is in use already: it is a snapshot of a program that has run (by Wizer or EVAL_CTORS); exchange the malloc before that";

/** The result of a function that may trap: undefined then. */
function tryQuietly(action: (argument: number) => number, argument: number): number | undefined {
  try {
    return action(argument) >>> 0;
  } catch {
    return undefined;
  }
}

/** The indices at which the two differ. */
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

/** Imports that do nothing: a request for more memory is refused. */
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
  for (let i = 0; i < module.getNumTables(); i++) {
    const info = binaryen.getTableInfo(module.getTableByIndex(i));
    add(info, new WebAssembly.Table({ element: "anyfunc", initial: info.initial, ...limit(info.max) }));
  }
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
