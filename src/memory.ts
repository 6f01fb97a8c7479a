// Linear memory: where the heap starts, and how memory grows. Others may grow it as well, between our calls.

import { EMSCRIPTEN, LAST_PAGE, LOCKED, PAGE, PAGE_BITS, PREFIXED, WASM_PAGE_BITS } from "./config";
import { getErrno, setErrno } from "./errno";


@external("env", "__heap_base")
export declare const HEAP_BASE: usize;
/** Defined by newer linkers; 0 with older ones, and if memory is 4 GiB from the start. */
@external("env", "__heap_end")
declare const HEAP_END: usize;

/** Of Emscripten: moves the break, the end of the memory in use. Returns the old break; -1 when memory is out. */
@external("env", "sbrk")
export declare function sbrk(increment: isize): usize;

/** Of wasi-libc: a library with prefixed names may be linked beside its malloc. */
@external("env", "__libc_malloc")
declare function libcMalloc(size: usize): usize;


@external("env", "__libc_free")
declare function libcFree(block: usize): void;

/** The table index of `__libc_malloc`; 0 in a program without libc's malloc. */
@external("env", "address of __libc_malloc")
declare const LIBC_MALLOC: usize;

/**
 * Makes libc's malloc, if there is one, claim its memory now: in releases without `__heap_end` its first call takes
 * everything up to the current end of linear memory, including what we have added by then.
 */
export function startLibc(): void {
  if (PREFIXED && !EMSCRIPTEN && LIBC_MALLOC) libcFree(libcMalloc(1));
}

/** Whether the memory after the program's own data is ours from the start. */
const HAS_FIRST_MEMORY: bool = !PREFIXED && !EMSCRIPTEN;

/** Returns the address where the memory that is ours from the start begins; 0 if there is none. */
@inline
export function heapBase(): usize {
  return HAS_FIRST_MEMORY ? (HEAP_BASE + 15) & ~15 : 0;
}

/** Returns the pages of linear memory. */
@inline
function memorySize(): u32 {
  return (<u32>memory.size()) << (WASM_PAGE_BITS - PAGE_BITS);
}

/**
 * Returns the page up to which memory is ours from the start; 0 if there is none.
 * Without `__heap_end` it is all memory that there is by the first call, as for the libc of the time.
 */
@inline
export function heapEndPage(): u32 {
  if (!HAS_FIRST_MEMORY) return 0;
  return HEAP_END ? <u32>(HEAP_END >>> PAGE_BITS) : min(memorySize(), LAST_PAGE);
}

/** log2 of the unit by which memory grows, in pages. */
const UNIT_BITS: u32 = EMSCRIPTEN ? 0 : WASM_PAGE_BITS - PAGE_BITS;

/** Returns how many pages `growMemory(pages)` takes. */
@inline
export function grownPages(pages: u32): u32 {
  return (pages + (1 << UNIT_BITS) - 1) & -(1 << UNIT_BITS);
}

/**
 * Under Emscripten memory grows by so many pages at least. With fewer, bins would often be searched in vain for free
 * pages.
 */
const STEP_PAGES: u32 = 16;

/** Returns how many pages to grow by at least under Emscripten, if memory in use ends before page `memoryEnd`. */
@inline
export function leastGrowth(memoryEnd: u32): u32 {
  return min(STEP_PAGES, min(memorySize(), LAST_PAGE) - memoryEnd);
}

/** Returns whether linear memory reaches page `end`. Under Emscripten, some of it may lie above the break. */
@inline
export function isInMemory(end: u32): bool {
  return end <= memorySize();
}

/** Takes `grownPages(pages)` fresh pages. Returns the first of them, or 0 when memory is out. */
export function growMemory(pages: u32): u32 {
  if (!EMSCRIPTEN) {
    const old = memory.grow(<i32>(grownPages(pages) >>> UNIT_BITS));
    return old == -1 ? 0 : (<u32>old) << UNIT_BITS;
  }
  // sbrk sets errno when it fails, but the call that needs memory may still find some elsewhere.
  const error = getErrno();
  // With the padding before it, sbrk would take this size for a negative increment.
  if ((pages + 1) >>> (31 - PAGE_BITS)) return 0;
  const bytes = pages << PAGE_BITS;
  let room: u32;
  let least: u32 = 0;
  let old: usize;
  do {
    // Another caller of sbrk may have left the break in mid-page, so pad to the next page. If another thread moves the
    // break between the two calls, what we get is lost, but only once: the second try has a whole page of padding.
    room = max<u32>(<u32>(-sbrk(0) & (PAGE - 1)), least);
    least = PAGE;
    old = sbrk(room + bytes);
    if (old == -1) {
      setErrno(error);
      return 0;
    }
  } while (LOCKED && (-old & (PAGE - 1)) > room);
  return <u32>((old + (PAGE - 1)) >>> PAGE_BITS);
}

/** Returns the first page that nobody has taken yet. */
@inline
export function memoryEndPage(): u32 {
  return EMSCRIPTEN ? <u32>((sbrk(0) - 1) >>> PAGE_BITS) + 1 : memorySize();
}

/** Up to this many bytes, a loop over words is faster than the engine's `memory.copy` and `memory.fill`. */
export const WORDWISE_MAX: usize = 256;

/**
 * `memory.fill` for memory that another thread may have added. In V8 (Node 20), a thread that has just started may not
 * learn of memory that others add until they add more: loads and stores reach it, but bulk memory instructions trap.
 */
@inline
export function fillMemory(at: usize, value: u8, bytes: usize): void {
  if (LOCKED) reach(at + bytes);
  memory.fill(at, value, bytes);
}

/** `memory.copy` for memory that another thread may have added: see `fillMemory`. */
@inline
export function copyMemory(to: usize, from: usize, bytes: usize): void {
  if (LOCKED) reach(max(to, from) + bytes);
  memory.copy(to, from, bytes);
}

/** Makes the thread learn of memory up to `end`: growing by 0 pages has the engine look at the present size. */
function reach(end: usize): void {
  if (<i32>((end - 1) >>> WASM_PAGE_BITS) >= memory.size()) memory.grow(0);
}
