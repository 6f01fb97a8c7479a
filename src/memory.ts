// Linear memory: where the heap starts and how it grows. Others may grow it too, between our calls.

import { EMSCRIPTEN, LOCKED, PAGE, PAGE_BITS, PREFIXED, WASM_PAGE_BITS } from "./config";
import { getErrno, setErrno } from "./errno";


@external("env", "__heap_base")
declare const HEAP_BASE: usize;
/** Newer linkers define it; 0 elsewhere. */
@external("env", "__heap_end")
declare const HEAP_END: usize;

/** Moves Emscripten's end of memory in use. Returns the old one; -1 when memory is out. */
@external("env", "sbrk")
declare function sbrk(increment: isize): usize;

/** Of wasi-libc, beside whose malloc a library with prefixed names may live. */
@external("env", "__libc_malloc")
declare function libcMalloc(size: usize): usize;


@external("env", "__libc_free")
declare function libcFree(block: usize): void;

/** A table index; 0 in a program without libc's malloc. */
@external("env", "address of __libc_malloc")
declare const LIBC_MALLOC: usize;

/**
 * Has libc's malloc start, if there is one: in releases without `__heap_end` it takes, with its first call, all that linear memory
 * has by then, what we have added included.
 */
export function startLibc(): void {
  if (PREFIXED && !EMSCRIPTEN && LIBC_MALLOC) libcFree(libcMalloc(1));
}

/** Whether memory after the program's own data is ours from the start. */
const HAS_FIRST_MEMORY: bool = !PREFIXED && !EMSCRIPTEN;

/** Where that begins, in bytes; 0 if there is none. */
@inline
export function heapBase(): usize {
  return HAS_FIRST_MEMORY ? (HEAP_BASE + 15) & ~15 : 0;
}

/**
 * The page up to which it is ours; 0 if there is none.
 * Without `__heap_end` only the rest of a wasm page is sure to be in the initial memory.
 */
@inline
export function heapEndPage(): u32 {
  if (!HAS_FIRST_MEMORY) return 0;
  const end = HEAP_END ? HEAP_END : (HEAP_BASE + 0xffff) & ~0xffff;
  return <u32>(end >>> PAGE_BITS);
}

/** log2 of the pages by which linear memory grows. */
const UNIT_BITS: u32 = EMSCRIPTEN ? 0 : WASM_PAGE_BITS - PAGE_BITS;

/** How many pages `growMemory` takes to have `pages`. */
@inline
export function grownPages(pages: u32): u32 {
  return (pages + (1 << UNIT_BITS) - 1) & -(1 << UNIT_BITS);
}

/** Whether linear memory reaches up to a page: under Emscripten there may be some that nobody has taken yet. */
@inline
export function isInMemory(end: u32): bool {
  return end <= (<u32>memory.size()) << (WASM_PAGE_BITS - PAGE_BITS);
}

/** Takes `grownPages(pages)` fresh pages. Returns the first of them, or 0 when there is no more memory. */
export function growMemory(pages: u32): u32 {
  if (!EMSCRIPTEN) {
    const old = memory.grow(<i32>(grownPages(pages) >>> UNIT_BITS));
    return old == -1 ? 0 : (<u32>old) << UNIT_BITS;
  }
  // sbrk sets it, but the call that memory grows for may find other memory.
  const error = getErrno();
  // A number of bytes that sbrk would take for a negative one, with room before it.
  if ((pages + 1) >>> (31 - PAGE_BITS)) return 0;
  const bytes = pages << PAGE_BITS;
  let room: u32;
  let least: u32 = 0;
  let old: usize;
  do {
    // Whoever called sbrk before may have left the break in mid-page. If another thread does so now, what we get is lost,
    // once: then there is room for it.
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

/** The first page that nobody has taken yet. */
@inline
export function memoryEndPage(): u32 {
  if (EMSCRIPTEN) return <u32>((sbrk(0) - 1) >>> PAGE_BITS) + 1;
  return (<u32>memory.size()) << (WASM_PAGE_BITS - PAGE_BITS);
}

/** Up to here a loop over words is faster than the engine's `memory.copy` and `memory.fill`, in bytes. */
export const WORDWISE_MAX: usize = 256;

/**
 * `memory.fill` on memory that another thread may have added. V8 (Node 20) may tell a thread that has just started of
 * memory that others add only with the next that they add: loads and stores reach it, but instructions for many bytes trap.
 */
@inline
export function fillMemory(at: usize, value: u8, bytes: usize): void {
  if (LOCKED) reach(at + bytes);
  memory.fill(at, value, bytes);
}

/** `memory.copy`, likewise. */
@inline
export function copyMemory(to: usize, from: usize, bytes: usize): void {
  if (LOCKED) reach(max(to, from) + bytes);
  memory.copy(to, from, bytes);
}

/** Growing by nothing makes the thread look. */
function reach(end: usize): void {
  if (<i32>((end - 1) >>> WASM_PAGE_BITS) >= memory.size()) memory.grow(0);
}
