// The entry of the builds for Emscripten: what its libraries and users expect of its malloc besides the C library's
// functions. The names are those of its dlmalloc and emmalloc; cabi/names.ts lists the symbols.

import { HARDENED, LARGE } from "./config";
import { resizeInPlaceChecked } from "./hardened";
import { copyMemory, fillMemory, sbrk } from "./memory";
import {
  MallInfo,
  allocate,
  allocateAligned,
  allocateZeroed,
  release,
  resizeInPlace,
  summarize,
  usableSize,
} from "./heap";
import { runOf } from "./pages";

export * from "./index";


@external("env", "emscripten_get_heap_max")
declare function heapMax(): usize;

/** Of POSIX; for `malloc_stats`. */
@external("env", "write")
declare function write(file: i32, text: usize, bytes: usize): isize;

const STDERR: i32 = 2;

// Reports.

/** `struct mallinfo` of <malloc.h>. Fields that have no counterpart in this heap are 0. */
@unmanaged
class GnuMallInfo {
  arena: usize;
  ordblks: usize;
  smblks: usize;
  hblks: usize;
  hblkhd: usize;
  /** The largest number of bytes that were ever in use. */
  usmblks: usize;
  fsmblks: usize;
  /** Bytes in use, and free. */
  uordblks: usize;
  fordblks: usize;
  keepcost: usize;
}

export function gnu_mallinfo(out: usize): void {
  // The first fields double as room for the summary.
  const summary = changetype<MallInfo>(out);
  summarize(summary, 0);
  const inUse = summary.inUse;
  const free = summary.free;
  const peak = summary.peak;
  fillMemory(out, 0, offsetof<GnuMallInfo>());
  const info = changetype<GnuMallInfo>(out);
  info.arena = inUse + free;
  info.usmblks = peak;
  info.uordblks = inUse;
  info.fordblks = free;
}

/** Writes "abcd        123\n" to `text`. `label` is four characters, the first in the lowest byte. Returns the end. */
function writeLine(text: usize, label: u32, value: usize): usize {
  store<u32>(text, label);
  const end = text + 15;
  let digit = end;
  do {
    store<u8>(--digit, <u8>(0x30 + (value % 10)));
    value /= 10;
  } while (value);
  while (digit > text + 4) store<u8>(--digit, 0x20);
  store<u8>(end, 0x0a);
  return end + 1;
}

/** Prints to stderr how many bytes are in the heap and in use, and the peak of these. */
export function malloc_stats(): void {
  const text = allocate(64);
  if (!text) return;
  const info = changetype<MallInfo>(text);
  summarize(info, 0);
  const inUse = info.inUse;
  const peak = info.peak;
  let end = writeLine(text, 0x70616568, info.heap); // "heap"
  end = writeLine(end, 0x64657375, inUse); // "used"
  end = writeLine(end, 0x6b616570, peak); // "peak"
  write(STDERR, text, end - text);
  release(text);
}

/** Returns the bytes in the heap, which never shrinks. */
export function malloc_footprint(): usize {
  return <usize>(summary() >>> 32);
}

export function emmalloc_free_dynamic_memory(): usize {
  return <usize>summary();
}

function summary(): u64 {
  return summarize(changetype<MallInfo>(0), 0);
}

/** Returns how many bytes the heap might still get from the system. */
export function emmalloc_unclaimed_heap_memory(): usize {
  return heapMax() - sbrk(0);
}

// Settings. There are none: the heap needs no tuning, and wasm has no way to give memory back.

/** Returns 0: no setting was changed. */
export function mallopt(setting: i32, value: i32): i32 {
  return 0;
}

/** Returns 0: no memory was given back. */
export function malloc_trim(keep: usize): i32 {
  return 0;
}

/** Returns the greatest size: there is no limit. */
export function malloc_footprint_limit(): usize {
  return usize.MAX_VALUE;
}

export function malloc_set_footprint_limit(bytes: usize): usize {
  return usize.MAX_VALUE;
}

// More ways to get blocks.

/** Resizes a block without moving it. Returns the block, or 0 if that is not possible. */
export function realloc_in_place(block: usize, size: usize): usize {
  if (!block || <isize>size < 0) return 0;
  if (HARDENED) return resizeInPlaceChecked(block, size) ? block : 0;
  const run = runOf(block);
  if (run.kind == LARGE) return resizeInPlace(run, size) ? block : 0;
  return size <= usableSize(block) ? block : 0;
}


@inline
function isAligned(block: usize, alignment: usize): bool {
  return !(block & (alignment - 1));
}

/** `realloc` to a multiple of `alignment`. */
export function aligned_realloc(block: usize, alignment: usize, size: usize): usize {
  if (isAligned(block, alignment) && realloc_in_place(block, size)) return block;
  const moved = allocateAligned(alignment, size);
  if (moved && block) {
    const kept = min(usableSize(block), size);
    // Zero-size blocks of a hardened build lie outside memory, where even copying no bytes traps.
    if (kept) copyMemory(moved, block, kept);
    release(block);
  }
  return moved;
}

/** `aligned_realloc` that need not preserve the block's contents. 0, with the block freed, when memory is out. */
export function aligned_realloc_uninitialized(block: usize, alignment: usize, size: usize): usize {
  if (isAligned(block, alignment) && realloc_in_place(block, size)) return block;
  release(block);
  return allocateAligned(alignment, size);
}

export function realloc_uninitialized(block: usize, size: usize): usize {
  return aligned_realloc_uninitialized(block, 1, size);
}

/** Fills the array at `blocks`, or a new one if that is 0, with `count` zeroed blocks. 0 when memory is out. */
export function independent_calloc(count: usize, size: usize, blocks: usize): usize {
  return allocateEach(count, size, 0, blocks);
}

/** `independent_calloc` with `sizes[i]` bytes for block `i`, not zeroed. */
export function independent_comalloc(count: usize, sizes: usize, blocks: usize): usize {
  return allocateEach(count, 0, sizes, blocks);
}

function allocateEach(count: usize, size: usize, sizes: usize, blocks: usize): usize {
  const array = blocks ? blocks : allocateZeroed(count, sizeof<usize>());
  if (!array) return 0;
  for (let i: usize = 0; i < count; ++i) {
    const cell = i * sizeof<usize>();
    const block = sizes ? allocate(load<usize>(sizes + cell)) : allocateZeroed(1, size);
    store<usize>(array + cell, block);
    if (!block) {
      bulk_free(array, i);
      if (!blocks) release(array);
      return 0;
    }
  }
  return array;
}

/** Frees the blocks in an array and clears it. Returns 0, the number of blocks that were not freed. */
export function bulk_free(array: usize, count: usize): usize {
  for (let i: usize = 0; i < count; ++i) {
    const cell = array + i * sizeof<usize>();
    release(load<usize>(cell));
    store<usize>(cell, 0);
  }
  return 0;
}
