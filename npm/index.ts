/**
 * A typed heap over the stand-alone module lib/rsbmalloc.wasm, for JavaScript and for several WebAssembly modules that
 * share one memory. Works in Node and in browsers.
 */
import { reasonOf } from "./errors.ts";
import { loadModule, type ModuleSource } from "./load.ts";
import { readRequirements } from "./requirements.ts";
import { WASM_PAGE, type Memory } from "./webassembly.ts";

export type { ModuleSource } from "./load.ts";

/** Values of `errno`: the same in WASI and Emscripten. */
export const ENOMEM = 48;
export const EINVAL = 28;

/** Size of a 32-bit address space, in bytes. */
const ADDRESSES = 2 ** 32;

export interface Options {
  /** The memory to put the heap in; by default the heap creates its own. */
  readonly memory?: Memory;
  /**
   * Where the free part of `memory` starts, which must still be all zero: a linked module's `__heap_base`. By default
   * the heap starts at the present end of the memory and makes it grow.
   */
  readonly heapBase?: number;
  /** Initial and maximum size of the heap's own memory, in pages of 64 KiB; 1 and 65,536 by default. */
  readonly initial?: number;
  readonly maximum?: number;
  /** The module, or where to load it from; by default the `rsbmalloc.wasm` of this package. */
  readonly module?: ModuleSource;
}

/**
 * The functions of rsbmallocc.h under their standard names; the page allocator and `mallinfo` have no prefix here.
 * Addresses are unsigned; sizes and alignments are in bytes. On failure functions return 0, the null pointer, and set
 * `errno` to ENOMEM or EINVAL. They throw a RangeError if an argument is not an unsigned 32-bit integer.
 */
export interface Heap {
  readonly memory: Memory;
  /** The module's exports, under standard and prefixed names, for other modules to import. Addresses are signed. */
  readonly exports: RawExports;
  /** Address of the allocator's state. */
  readonly state: number;
  /** Set by calls that fail; calls that succeed leave it alone. */
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

/** The totals of a heap, in bytes. */
export interface MallInfo {
  /** Size of the heap, without the allocator's own data. */
  readonly heap: number;
  /** Size of the blocks in use, rounded up to slots and pages. */
  readonly inUse: number;
  /** The rest of the heap: available for blocks, or left over after the last slot of a run. */
  readonly free: number;
  /** The most bytes that pages with blocks ever took. */
  readonly peak: number;
  /** Smallest slots first. */
  readonly bins: readonly { readonly slotSize: number; readonly pages: number; readonly freeSlots: number }[];
}

// Before the heap: errno, the struct that mallinfo fills (rsbmallocc.h) and the allocator's state.
const ERRNO_SIZE = 16;
const INFO_BINS = 64;
const INFO_SIZE = 4 * (5 + 3 * INFO_BINS);

/**
 * Creates a heap. Throws a one-line Error if the module cannot be loaded, if the memory is shared or 64-bit, or if it
 * has no room for the start of the heap.
 */
export async function instantiate(options: Options = {}): Promise<Heap> {
  const module = await loadModule(options.module ?? new URL("../lib/rsbmalloc.wasm", import.meta.url));
  const { stateSize, stateAlignment } = readRequirements(module);
  const memory = options.memory ?? ownMemory(options);
  // Not by its class: it may come from another window.
  if (memory.buffer?.byteLength === undefined)
    throw new Error("rsbmalloc: memory: it is not a WebAssembly.Memory");

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
    // 0 for 4 GiB, where the heap ends at the end of memory.
    __heap_end: address(memory.buffer.byteLength),
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

/** Calls an export with unsigned numbers. Returns its result as an unsigned one. */
function call(exports: RawExports, name: string, ...numbers: number[]): number {
  for (const number of numbers) checkUnsigned(name, number);
  return exports[name]!(...numbers) >>> 0;
}

function checkUnsigned(what: string, number: number): void {
  if (number === number >>> 0) return;
  throw new RangeError(`rsbmalloc: ${what}: ${number} is not an integer from 0 to 4,294,967,295`);
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
    throw failure(`cannot create a memory of ${initial} to ${maximum} pages of 64 KiB`, error);
  }
}

/** Returns the first address that the heap may use: never 0, the null pointer. */
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
    throw failure("the memory has no room for the heap: give it a larger maximum", error);
  }
}

function link(module: WebAssembly.Module, env: WebAssembly.ModuleImports): RawExports {
  try {
    return new WebAssembly.Instance(module, { env }).exports as RawExports;
  } catch (error) {
    throw failure("the memory must not be shared or 64-bit", error);
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
