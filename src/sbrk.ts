// Emscripten's `sbrk`, for releases that keep it in the same library as their malloc, so that -sMALLOC=none leaves a
// program without it. An entry of its own, and an object of its own in the library.
//
// The break is the end of the memory that has been taken. Between it and the end of linear memory lies what Emscripten
// has grown in advance.

import { ENOMEM, LOCKED, WASM_PAGE_BITS } from "./config";
import { setErrno } from "./errno";
import { HEAP_BASE } from "./memory";

/** The state of this object: the break. */
@external("env", "__rsb_break")
declare const BREAK: usize;

export const STATE_SIZE: usize = sizeof<usize>();

/** Grows linear memory to at least `bytes` and renews JavaScript's views of it. Returns whether that was possible. */
@external("env", "emscripten_resize_heap")
declare function resizeHeap(bytes: usize): i32;

/** The break stays aligned for any object, as in Emscripten: alignof(max_align_t). */
const ALIGNMENT: usize = 8;


@inline
function align(bytes: usize): usize {
  return (bytes + (ALIGNMENT - 1)) & ~(ALIGNMENT - 1);
}

/** Returns the address of the break, for reading it without a call: SAFE_HEAP does so at every memory access. */
export function emscripten_get_sbrk_ptr(): usize {
  if (!load<usize>(BREAK)) replaceBreak(0, HEAP_BASE);
  return BREAK;
}

/** Moves the break from `old`, unless another thread has moved it. Returns whether it did. */
@inline
function replaceBreak(old: usize, to: usize): bool {
  if (LOCKED) return atomic.cmpxchg<usize>(BREAK, old, to) == old;
  store<usize>(BREAK, to);
  return true;
}

/** Returns whether linear memory reaches up to `end`. Compares wasm pages, since 4 GiB in bytes would wrap to 0. */
@inline
function isInMemory(end: usize): bool {
  return (end - 1) >>> WASM_PAGE_BITS < <usize>memory.size();
}

/** Raises the break by `increment` bytes, rounded up. Returns the old break; -1 and ENOMEM when memory is out. */
export function sbrk(increment: isize): usize {
  const bytes = align(increment);
  for (;;) {
    const old = load<usize>(emscripten_get_sbrk_ptr());
    if (!increment) return old;
    const to = old + bytes;
    if (to <= old) break;
    const size = memory.size();
    if (isInMemory(to) || resizeHeap(to)) {
      if (replaceBreak(old, to)) return old;
    } else if (!LOCKED || memory.grow(0) == size) {
      break;
    }
    // Try again: another thread has moved the break, or grown memory, which made Emscripten refuse.
  }
  setErrno(ENOMEM);
  return -1;
}

/** `sbrk` as current releases' malloc calls it, with a signed increment; -1 and ENOMEM if it would lower the break. */
export function _sbrk64(increment: i64): usize {
  if (<u64>increment <= usize.MAX_VALUE) return sbrk(<isize>increment);
  setErrno(ENOMEM);
  return -1;
}

/** Sets the break. Returns 0; -1 and ENOMEM when memory is out, or if it would lower the break. */
export function brk(address: usize): i32 {
  return sbrk(align(address) - sbrk(0)) == -1 ? -1 : 0;
}
