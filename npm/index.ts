/**
 * A typed heap over the stand-alone module lib/rsbmalloc.wasm, for JavaScript and for several WebAssembly modules that
 * share one memory. Works in Node and in browsers.
 */
import { reasonOf } from "./errors.ts";
import { loadModule, type ModuleSource } from "./load.ts";
import { readRequirements } from "./requirements.ts";
import { WASM_PAGE, type Memory } from "./webassembly.ts";

export type { ModuleSource } from "./load.ts";

/** What `errno` is set to; WASI's and Emscripten's numbers. */
export const ENOMEM = 48;
export const EINVAL = 28;

/** One more than the last address. */
const ADDRESSES = 2 ** 32;

export interface Options {
  /** The memory that the heap lives in; by default one of its own. */
  readonly memory?: Memory;
  /**
   * The first byte of `memory` from which on it is free, and still all zero: a linked module's `__heap_base`. By default
   * the memory grows, and nothing below its end of that moment is touched.
   */
  readonly heapBase?: number;
  /** Size and limit of the heap's own memory, in pages of 64 KiB; 1 and 65,536 by default. */
  readonly initial?: number;
  readonly maximum?: number;
  /** The module, compiled or to be compiled; by default the packed file. */
  readonly module?: ModuleSource;
}

/**
 * The functions of rsbmallocc.h by their standard names, except that addresses are unsigned here and the page allocator
 * and `mallinfo` have no prefix. Sizes, alignments and usable sizes are in bytes. 0 is the null pointer; with it goes an
 * `errno` of ENOMEM or EINVAL. A number that is no unsigned 32-bit integer throws a RangeError.
 */
export interface Heap {
  readonly memory: Memory;
  /** The module's own exports, standard and prefixed names, for the imports of other modules. Addresses are signed. */
  readonly exports: RawExports;
  /** Where the allocator's state lies in memory. */
  readonly state: number;
  /** Set by a call that fails; calls that succeed leave it alone. */
  errno: number;

  malloc(size: number): number;
  free(block: number): void;
  calloc(count: number, size: number): number;
  realloc(block: number, size: number): number;
  reallocarray(block: number, count: number, size: number): number;
  aligned_alloc(alignment: number, size: number): number;
  memalign(alignment: number, size: number): number;
  /** Stores the block's address at `result`. Returns 0, EINVAL or ENOMEM, and leaves `errno` alone. */
  posix_memalign(result: number, alignment: number, size: number): number;
  valloc(size: number): number;
  pvalloc(size: number): number;
  malloc_usable_size(block: number): number;
  free_sized(block: number, size: number): void;
  free_aligned_sized(block: number, alignment: number, size: number): void;
  page_alloc(size: number, alignment: number): number;
  page_realloc(run: number, size: number): number;
  page_free(run: number): void;
  mallinfo(): MallInfo;
}

export type RawExports = Readonly<Record<string, (...args: number[]) => number>>;

/** What the heap holds, in bytes. */
export interface MallInfo {
  /** Linear memory that the heap has, without its own bookkeeping. */
  readonly heap: number;
  /** In blocks that are in use, rounded up as the allocator does. */
  readonly inUse: number;
  /** The rest of the heap: free for further blocks, or left over after the last slot of a run. */
  readonly free: number;
  /** The most bytes ever in pages that served blocks. */
  readonly peak: number;
  /** Smallest slots first. */
  readonly bins: readonly { readonly slotSize: number; readonly pages: number; readonly freeSlots: number }[];
}

// Before the heap lie errno, the struct that mallinfo writes (rsbmallocc.h) and the allocator's state.
const ERRNO_SIZE = 16;
const INFO_BINS = 64;
const INFO_SIZE = 4 * (5 + 3 * INFO_BINS);

/**
 * Makes a heap. Throws an Error of one line if the module cannot be loaded, the memory does not fit it (it is shared or
 * 64-bit) or has no room for the heap to start.
 */
export async function instantiate(options: Options = {}): Promise<Heap> {
  const module = await loadModule(options.module ?? new URL("../lib/rsbmalloc.wasm", import.meta.url));
  const { stateSize, stateAlignment } = readRequirements(module);
  const memory = options.memory ?? ownMemory(options);

  const errno = firstFree(memory, options, stateAlignment);
  const info = errno + ERRNO_SIZE;
  const state = align(info + INFO_SIZE, stateAlignment);
  const heapBase = state + stateSize;
  growTo(memory, heapBase);
  new Uint8Array(memory.buffer).fill(0, errno, heapBase);

  const exports = link(module, {
    memory,
    __rsb_state: address(state),
    __heap_base: address(heapBase),
    // 0, as the end of 4 GiB, would say that the end is not known.
    __heap_end: address(Math.min(memory.buffer.byteLength, ADDRESSES - 1)),
    errno: address(errno),
  });
  const words = () => new Uint32Array(memory.buffer);
  return {
    memory,
    exports,
    state,
    get errno() {
      return words()[errno / 4]!;
    },
    set errno(value) {
      words()[errno / 4] = value;
    },
    ...typed(exports),
    mallinfo() {
      call(exports, "rsbmallinfo", info);
      return readMallInfo(words().subarray(info / 4));
    },
  };
}

type Functions = Omit<Heap, "memory" | "exports" | "state" | "errno" | "mallinfo">;

function typed(exports: RawExports): Functions {
  return {
    malloc: (size) => call(exports, "malloc", size),
    free: (block) => void call(exports, "free", block),
    calloc: (count, size) => call(exports, "calloc", count, size),
    realloc: (block, size) => call(exports, "realloc", block, size),
    reallocarray: (block, count, size) => call(exports, "reallocarray", block, count, size),
    aligned_alloc: (alignment, size) => call(exports, "aligned_alloc", alignment, size),
    memalign: (alignment, size) => call(exports, "memalign", alignment, size),
    posix_memalign: (result, alignment, size) => call(exports, "posix_memalign", result, alignment, size),
    valloc: (size) => call(exports, "valloc", size),
    pvalloc: (size) => call(exports, "pvalloc", size),
    malloc_usable_size: (block) => call(exports, "malloc_usable_size", block),
    free_sized: (block, size) => void call(exports, "free_sized", block, size),
    free_aligned_sized: (block, alignment, size) =>
      void call(exports, "free_aligned_sized", block, alignment, size),
    page_alloc: (size, alignment) => call(exports, "rsbpage_alloc", size, alignment),
    page_realloc: (run, size) => call(exports, "rsbpage_realloc", run, size),
    page_free: (run) => void call(exports, "rsbpage_free", run),
  };
}

/** Calls an export with unsigned numbers, and has an unsigned one back. */
function call(exports: RawExports, name: string, ...numbers: number[]): number {
  for (const number of numbers) checkUnsigned(name, number);
  return exports[name]!(...numbers) >>> 0;
}

function checkUnsigned(what: string, number: number): void {
  if (number === number >>> 0) return;
  throw new RangeError(`rsbmalloc: ${what}: ${number} is no integer from 0 to 4,294,967,295`);
}

function readMallInfo(words: Uint32Array): MallInfo {
  const [heap, inUse, free, peak, bins] = words as unknown as [number, number, number, number, number];
  return {
    heap,
    inUse,
    free,
    peak,
    bins: Array.from({ length: bins }, (_, bin) => {
      const [slotSize, pages, freeSlots] = words.subarray(5 + 3 * bin) as unknown as [number, number, number];
      return { slotSize, pages, freeSlots };
    }),
  };
}

function ownMemory({ initial = 1, maximum = ADDRESSES / WASM_PAGE }: Options): WebAssembly.Memory {
  try {
    return new WebAssembly.Memory({ initial, maximum });
  } catch (error) {
    throw failure(`no memory of ${initial} to ${maximum} pages of 64 KiB`, error);
  }
}

/** Where what the heap needs can start: never at 0, the null pointer. */
function firstFree(
  memory: WebAssembly.Memory,
  { heapBase, memory: given }: Options,
  alignment: number,
): number {
  if (heapBase !== undefined) checkUnsigned("heapBase", heapBase);
  const free = heapBase ?? (given ? memory.buffer.byteLength : 0);
  return align(Math.max(free, alignment), alignment);
}

function growTo(memory: WebAssembly.Memory, end: number): void {
  const missing = end - memory.buffer.byteLength;
  if (missing <= 0) return;
  try {
    memory.grow(Math.ceil(missing / WASM_PAGE));
  } catch (error) {
    throw failure("the memory has no room for the heap: give it a greater maximum", error);
  }
}

function link(module: WebAssembly.Module, env: WebAssembly.ModuleImports): RawExports {
  try {
    return new WebAssembly.Instance(module, { env }).exports as RawExports;
  } catch (error) {
    throw failure("the memory must be neither shared nor 64-bit", error);
  }
}

function address(value: number): WebAssembly.Global {
  return new WebAssembly.Global({ value: "i32" }, value);
}

function align(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}

function failure(what: string, cause: unknown): Error {
  return new Error(`rsbmalloc: ${what} (${reasonOf(cause)})`, { cause });
}
