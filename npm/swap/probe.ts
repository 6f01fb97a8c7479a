/**
 * Tries a module's own malloc in an instance that is thrown away, to find out what no name tells: where its heap
 * starts, which word Emscripten's sbrk keeps the break in, where errno lies, and whether the heap is as new.
 */
import binaryen from "binaryen";

/** Addresses in linear memory, in bytes. */
export interface Findings {
  /** Where the module's own data end and its malloc's memory begins, as far as it is there from the start. */
  readonly heapStart: number;
  /** Linear memory at the start. */
  readonly memorySize: number;
  /** The word that holds the break, if sbrk was tried. */
  readonly breakAddress: number;
  /** 0 if there is none. */
  readonly errno: number;
}

/** Exports that are added for as long as it takes. */
export const TRIED = {
  memory: "rsbmalloc:memory",
  constructor: "rsbmalloc:constructor",
  malloc: "rsbmalloc:malloc",
  sbrk: "rsbmalloc:sbrk",
  errno: "rsbmalloc:errno",
} as const;

const ENOMEM = 48;
const PAGE = 65536;
/** A request that no memory can satisfy twice. */
const TOO_MUCH = 0x7fff0000;
/** dlmalloc's and emmalloc's headers before a block, and what they leave for alignment, are no larger. */
const HEADERS = 128;

type Exported = Record<string, (...args: number[]) => number>;

/**
 * `bytes` is the module with the exports of TRIED, as far as there is what they name. Throws an Error of one line if
 * its malloc does not work as one does in a program that has just been loaded.
 */
export function probe(bytes: Uint8Array<ArrayBuffer>, module: binaryen.Module): Findings {
  const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), standIns(module));
  const exports = instance.exports as unknown as Exported;
  const has = (name: string) => Object.hasOwn(instance.exports, name);
  const memory = instance.exports[TRIED.memory] as WebAssembly.Memory;
  const memorySize = memory.buffer.byteLength;
  const words = () => new Uint32Array(memory.buffer, 0, memorySize / 4);
  const call = (what: string, name: string, ...args: number[]): number => {
    try {
      return exports[name]!(...args) >>> 0;
    } catch (error) {
      throw new Error(
        `its ${what} does not work in a fresh instance (${error instanceof Error ? error.message : error})`,
      );
    }
  };
  /** The words that `action` changes: address to the value before. */
  const changes = (action: () => void): Map<number, number> => {
    const before = words().slice();
    action();
    const after = words();
    return new Map([...before.keys()].filter((i) => before[i] !== after[i]).map((i) => [i * 4, before[i]!]));
  };

  let breakAddress = 0;
  let heapStart = 0;
  if (has(TRIED.sbrk)) {
    let start = 0;
    const moved = changes(() => (start = call("sbrk", TRIED.sbrk, 16)));
    [[breakAddress = 0] = []] = [...moved].filter(([, old]) => old === start);
    if (moved.size !== 1 || breakAddress === 0)
      throw new Error("its sbrk keeps no break that could be moved: it is not Emscripten's");
    heapStart = start;
  }

  let block = 0;
  const touched = changes(() => {
    if (has(TRIED.constructor)) call("malloc's constructor", TRIED.constructor);
    block = call("malloc", TRIED.malloc, 1);
  });
  if (block === 0) throw new Error("its malloc has no memory to begin with");
  heapStart ||= Math.min(block, memorySize);
  for (const [address, old] of touched) {
    const isBreak = old > heapStart - HEADERS && old <= heapStart + HEADERS;
    if (old !== 0 && address !== breakAddress && !isBreak) throw new Error(LIVE);
  }
  if (usedBefore(words(), touched, heapStart)) throw new Error(LIVE);

  let errno = has(TRIED.errno) ? call("errno", TRIED.errno) : 0;
  for (let tries = 0; errno === 0 && tries < 3; tries++) {
    let failed = false;
    const set = changes(() => (failed = call("malloc", TRIED.malloc, TOO_MUCH) === 0));
    if (!failed) continue;
    const candidates = [...set.keys()].filter((address) => words()[address / 4] === ENOMEM);
    if (candidates.length === 1) [errno = 0] = candidates;
    break;
  }
  return { heapStart, memorySize, breakAddress, errno };
}

const LIVE =
  "its heap is in use already: it is a snapshot of a program that has run (by Wizer or EVAL_CTORS); exchange the malloc before that";

/** Whether there is data where the heap has not yet been. */
function usedBefore(words: Uint32Array, touched: ReadonlyMap<number, number>, heapStart: number): boolean {
  for (let i = Math.ceil(heapStart / 4); i < words.length; i++)
    if (words[i] !== 0 && !touched.has(i * 4)) return true;
  return false;
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
  for (let i = 0; i < module.getNumFunctions(); i++) {
    const info = binaryen.getFunctionInfo(module.getFunctionByIndex(i));
    const [result] = binaryen.expandType(info.results);
    add(info, () => (result === binaryen.i64 ? 0n : 0));
  }
  for (let i = 0; i < module.getNumGlobals(); i++) {
    const info = binaryen.getGlobalInfo(module.getGlobalByIndex(i));
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
  return maximum === undefined || maximum > PAGE ? {} : { maximum };
}

const TYPES: ReadonlyMap<binaryen.Type, WebAssembly.ValueType> = new Map([
  [binaryen.i32, "i32"],
  [binaryen.i64, "i64"],
  [binaryen.f32, "f32"],
  [binaryen.f64, "f64"],
]);
