// What Emscripten's libraries and users expect of its malloc besides the C library's functions. The entry of the
// builds for Emscripten. The names are those of its dlmalloc and emmalloc; cabi/names.ts lists the symbols.

import { HARDENED, LARGE } from "./config";
import { resizeInPlaceChecked } from "./hardened";
import { copyMemory, fillMemory } from "./memory";
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


@external("env", "sbrk")
declare function sbrk(increment: isize): usize;

/** POSIX's, of which malloc_stats has need. */
@external("env", "write")
declare function write(file: i32, text: usize, bytes: usize): isize;

const STDERR: i32 = 2;

// Reports.

/** `struct mallinfo` of <malloc.h>. What this heap has no counterpart of is 0. */
@unmanaged
class GnuMallInfo {
  arena: usize;
  ordblks: usize;
  smblks: usize;
  hblks: usize;
  hblkhd: usize;
  /** The most that was ever in use. */
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
  fillMemory(out, 0, offsetof<GnuMallInfo>());
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

/** Writes "abcd        123\n" to `text`; `label` is four characters, the first lowest. Returns where the text ends. */
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

/** Prints the bytes in the heap, in use, and the most there ever were, to stderr. */
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

/** Bytes in the heap. It never gets smaller. */
export function malloc_footprint(): usize {
  return <usize>(summary() >>> 32);
}

export function emmalloc_free_dynamic_memory(): usize {
  return <usize>summary();
}

function summary(): u64 {
  return summarize(changetype<MallInfo>(0), 0);
}

/** Bytes that the heap might still get from the system. */
export function emmalloc_unclaimed_heap_memory(): usize {
  return heapMax() - sbrk(0);
}

// Settings. There are none: a heap is what it needs to be, and wasm has no way to give memory back.

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

/** Resizes a block without moving it. Returns it, or 0 if that can't be done. */
export function realloc_in_place(block: usize, size: usize): usize {
  if (!block || <isize>size < 0) return 0;
  if (HARDENED) return resizeInPlaceChecked(block, size) ? block : 0;
  const run = runOf(block);
  if (run.kind == LARGE) return resizeInPlace(run, size) ? block : 0;
  return size <= usableSize(block) ? block : 0;
}

/** `realloc` to a block at a multiple of `alignment`. */
export function aligned_realloc(block: usize, alignment: usize, size: usize): usize {
  if (realloc_in_place(block, size)) return block;
  const moved = allocateAligned(alignment, size);
  if (moved && block) {
    const kept = min(usableSize(block), size);
    // A hardened build's blocks of no bytes lie where even copying none traps.
    if (kept) copyMemory(moved, block, kept);
    release(block);
  }
  return moved;
}

/** `realloc` that need not keep what is in the block. 0, with the block freed, when memory is out. */
export function aligned_realloc_uninitialized(block: usize, alignment: usize, size: usize): usize {
  if (realloc_in_place(block, size)) return block;
  release(block);
  return allocateAligned(alignment, size);
}

export function realloc_uninitialized(block: usize, size: usize): usize {
  return aligned_realloc_uninitialized(block, 1, size);
}

/** An array at `blocks`, or a new one if that is 0, of `count` blocks of zeros. 0 when memory is out. */
export function independent_calloc(count: usize, size: usize, blocks: usize): usize {
  return allocateEach(count, size, 0, blocks);
}

/** The same for blocks of `sizes[i]` bytes, not zeroed. */
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

/** Frees the blocks in an array and sets its cells to 0. Returns 0: none was left. */
export function bulk_free(array: usize, count: usize): usize {
  for (let i: usize = 0; i < count; ++i) {
    const cell = array + i * sizeof<usize>();
    release(load<usize>(cell));
    store<usize>(cell, 0);
  }
  return 0;
}
