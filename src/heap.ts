// The heap as a C programmer knows it: allocate, free, resize, align, measure.

import {
  BINS,
  BIN_MAX,
  CACHED,
  COMPACT,
  EINVAL,
  ENOMEM,
  FIRST_BIN,
  HARDENED,
  LARGE,
  PAGE,
  PAGE_BITS,
  SMALL_MAX,
  state,
} from "./config";
import { setErrno } from "./errno";
import {
  Bin,
  ROOM_TO_GROW,
  binAt,
  ensureStarted,
  freeSlotsOf,
  hasFresh,
  isFreed,
  lengthenRun,
  obtainRun,
  putBack,
  settle,
  smallBin,
  popFreed,
  takeFresh,
  takeReady,
  takeSlow,
} from "./bins";
import * as compact from "./compact";
import { firstSlot, giveAllBack, makeRoom, releaseCached, smallCell, takeCached, takeSlot } from "./caches";
import {
  allocateChecked,
  allocatePagesChecked,
  checkHeap,
  emptyQuarantine,
  expectBlock,
  releaseChecked,
  resizeChecked,
  resizePagesChecked,
  sizeChecked,
} from "./hardened";
import { isFree } from "./free-pages";
import { lock, unlock } from "./lock";
import { WORDWISE_MAX, copyMemory, fillMemory } from "./memory";
import { Run, largePages, pageOf, pagesFor, lengthOf, mayGrow, runAt, runOf, setRun } from "./pages";
import { alignedSize, binOfSize, slotSize } from "./size-classes";


@inline
function isPowerOfTwo(n: usize): bool {
  return popcnt<usize>(n) == 1;
}

/** What `rsbmallinfo` reports on a bin. */
@unmanaged
class BinInfo {
  slotSize: usize;
  pages: usize;
  freeSlots: usize;
}

/** What `rsbmallinfo` reports, in bytes. It is followed by a BinInfo for each bin. */
@unmanaged
export class MallInfo {
  heap: usize;
  inUse: usize;
  free: usize;
  peak: usize;
  binCount: usize;
}

const INFO_SIZE: usize = offsetof<MallInfo>() + BINS * offsetof<BinInfo>();

function fail(error: i32): usize {
  setErrno(error);
  return 0;
}

function orFail(block: usize): usize {
  return block ? block : fail(ENOMEM);
}

/** Allocates `size` bytes; 0 and ENOMEM when memory is out. The fast path takes a slot that is at hand. */
export function allocate(size: usize): usize {
  if (HARDENED) return orFail(allocateChecked(size, 0));
  if (CACHED && size <= SMALL_MAX) {
    const cell = smallCell(size);
    const slot = firstSlot(cell);
    if (slot) {
      takeCached(cell, slot);
      return slot;
    }
  }
  if (COMPACT) return allocateAligned(1, size);
  if (size < state().smallEnd) {
    const bin = changetype<Bin>(smallBin(size));
    const run = bin.first;
    const slot = run.free;
    if (slot) {
      popFreed(run, slot);
      return slot;
    }
    if (hasFresh(bin)) return takeFresh(bin);
  }
  // Here a call costs little compared with the rest.
  return takeAny(size, true);
}

// The `take` functions and those that they call return 0 when memory is out, and leave errno to their callers.

/**
 * Allocates `size` bytes. If told to report, it sets errno when memory is out: that saves `malloc` a call, which in a
 * compact build does not come here.
 */
function takeAny(size: usize, reports: bool): usize {
  if (COMPACT) return takeAligned(1, size);
  const block = size > BIN_MAX ? allocateLarge(size, 1) : allocateSlot(size);
  return block || !reports ? block : fail(ENOMEM);
}

/** Allocates a slot for `size` bytes, at most BIN_MAX. */
@inline
function allocateSlot(size: usize): usize {
  const kind = binOfSize(size);
  if (CACHED) return takeSlot(kind);
  const bin = binAt(kind);
  lock();
  let slot: usize = 0;
  if (ensureStarted()) slot = COMPACT ? compact.take(bin) : takeReady(bin) || takeSlow(bin);
  unlock();
  return slot;
}

/** Returns the number of pages of a large block: one at least. */
@inline
function blockPages(size: usize): u32 {
  return pagesFor(size | usize(!size));
}

/** Allocates a page run for `size` bytes at a multiple of `alignment` pages, a power of two. */
function allocateLarge(size: usize, alignment: u32): usize {
  lock();
  const block = takeLarge(size, alignment);
  unlock();
  return block;
}

/** `allocateLarge`, but needs the lock. */
function takeLarge(size: usize, alignment: u32): usize {
  if (<isize>size < 0 || !ensureStarted()) return 0;
  const pages = blockPages(size);
  if (!COMPACT) {
    // The block freed last may have just the right length, and its run is not free yet.
    const last = changetype<Run>(state().events);
    if (last) {
      const misfit = (last.size ^ (pages << PAGE_BITS)) | (pageOf(last.start) & (alignment - 1));
      if (!misfit && isFreed(last)) {
        state().events = last.event;
        last.left = 1;
        return last.start;
      }
    }
  }
  if (CACHED) makeRoom(pages, alignment);
  const run = COMPACT ? compact.obtainRun(pages, alignment) : obtainRun(pages, pages, alignment);
  if (!run) return 0;
  setRun(run.start, run);
  return run.start;
}

/**
 * Frees a block. What that means for its run, or for an invalid pointer, is left to a later call of `settle`, unless the
 * build is compact.
 */
export function release(block: usize): void {
  if (HARDENED) {
    releaseChecked(block);
    return;
  }
  if (!block) return;
  const run = runOf(block);
  if (CACHED) {
    releaseCached(run, block);
    return;
  }
  if (!COMPACT) {
    putBack(run, block);
    return;
  }
  // Of kind NONE, whose `start` is 0, or inside a large block.
  if (run.kind < FIRST_BIN && block != run.start) unreachable();
  lock();
  compact.putBack(run, block);
  unlock();
}

/** `release` for a caller that states the block's size and, unless 0, the alignment that it was allocated with. */
export function releaseSized(block: usize, alignment: usize, size: usize): void {
  if (HARDENED && block) expectBlock(block, size, alignment);
  release(block);
}

/** Looks for damage and traps if there is any: everywhere in a hardened build, otherwise in what waits to be freed. */
export function check(): void {
  if (HARDENED) {
    checkHeap();
    return;
  }
  lock();
  collect();
  unlock();
}

/** Returns slots in batches, in this thread's cache and in quarantine to their runs, and settles. Needs the lock. */
function collect(): void {
  if (CACHED) giveAllBack();
  if (HARDENED) emptyQuarantine();
  else if (!COMPACT) settle();
}

/** Returns the number of bytes that a block has room for. */
export function usableSize(block: usize): usize {
  if (!block) return 0;
  if (HARDENED) return sizeChecked(block);
  const run = runOf(block);
  if (run.kind < LARGE) unreachable();
  return run.size;
}

/** Resizes the run of a large block in place. Returns whether that was possible. */
export function resizeInPlace(run: Run, size: usize): bool {
  if (<isize>size < 0) return false;
  lock();
  const pages = blockPages(size);
  // Pages behind the block may be about to become free. A block that shrinks needs none.
  if (!COMPACT && pages > largePages(run)) settle();
  let resized = COMPACT ? compact.lengthenRun(run, pages, !CACHED) : lengthenRun(run, pages);
  if (CACHED && !resized) {
    makeRoom(pages, 1);
    resized = compact.lengthenRun(run, pages, true);
  }
  unlock();
  return resized;
}

/** Resizes a block, in place or by moving it; 0 and ENOMEM, with the block unchanged, when memory is out. */
export function resize(block: usize, size: usize): usize {
  if (!block) return allocate(size);
  if (HARDENED) return orFail(resizeChecked(block, size));
  const run = runOf(block);
  // In a compact build, only `resizeSlow` looks.
  if (!COMPACT && isFit(run, size)) return block;
  return resizeSlow(run, block, size);
}

/** Returns whether a run's slots are as good a fit for `size` bytes as any. */
@inline
function isFit(run: Run, size: usize): bool {
  const slot: usize = run.size;
  return run.kind >= FIRST_BIN && size <= slot && (size >= slot >>> 1 || slot <= 64);
}

/** The slow path of `resize`: for a block whose slot is a bad fit for the new size, and for a large block. */
function resizeSlow(run: Run, block: usize, size: usize): usize {
  const old = usableSize(block);
  if (COMPACT && isFit(run, size)) return block;
  let moved: usize = 0;
  const isSafe = mayGrow(ROOM_TO_GROW);
  if (run.kind == LARGE) {
    if (old - size < PAGE) return block;
    // A large block that is better off in a slot moves there.
    if ((size > BIN_MAX >>> 1 || !isSafe) && resizeInPlace(run, size)) return block;
  } else if (!COMPACT && size - old < old >>> 3 && isSafe) {
    // A block that grows by little may well grow again, so it gets a slot with room for that.
    moved = takeAny(size + (old >>> 2), false);
  }
  // Where `copy` may write a whole double word, not to a slot of 4 B.
  if (!moved && (size > old || isSafe)) moved = takeAny(COMPACT ? size : max<usize>(size, 8), false);
  if (!moved) return size <= old ? block : fail(ENOMEM);
  copy(moved, block, min(old, size));
  release(block);
  return moved;
}

/**
 * Copies whole double words, or a word for up to 4 bytes, unless the build is compact. That stays within both slots, since
 * only those of 4 B are not multiples of 8, and copying the rest of a slot does no harm.
 */
@inline
function copy(to: usize, from: usize, bytes: usize): void {
  if (COMPACT || bytes > WORDWISE_MAX) {
    copyMemory(to, from, bytes);
    return;
  }
  if (bytes <= 4) store<u32>(to, load<u32>(from));
  else for (let i: usize = 0; i < bytes; i += 8) store<u64>(to + i, load<u64>(from + i));
}

/** Allocates `count * size` zero bytes. */
export function allocateZeroed(count: usize, size: usize): usize {
  const product = <u64>count * <u64>size;
  if (product > <u64>isize.MAX_VALUE) return fail(ENOMEM);
  let bytes = <usize>product;
  if (HARDENED) return allocate(bytes);
  const fresh = state().fresh;
  const block = allocate(bytes);
  if (!block) return 0;
  if (!COMPACT && bytes > BIN_MAX) {
    // Pages from `fresh` on had never been handed out, and are zero.
    const page = pageOf(block);
    bytes = page < fresh ? min(bytes, (<usize>(fresh - page)) << PAGE_BITS) : 0;
  }
  if (COMPACT || bytes > WORDWISE_MAX) fillMemory(block, 0, bytes);
  else if (bytes <= 4) store<u32>(block, 0);
  else for (let i: usize = 0; i < bytes; i += 8) store<u64>(block + i, 0);
  return block;
}

/** Allocates a block at a multiple of `alignment`; 0 and EINVAL if that is no power of two. */
export function allocateAligned(alignment: usize, size: usize): usize {
  return isPowerOfTwo(alignment) ? orFail(takeAligned(alignment, size)) : fail(EINVAL);
}

/** Allocates a block at a multiple of `alignment`, a power of two; 0 when memory is out. Leaves errno alone. */
function takeAligned(alignment: usize, size: usize): usize {
  if (HARDENED) return <isize>size < 0 ? 0 : allocateChecked(size, alignment);
  if (size > BIN_MAX || alignment >= PAGE) return allocateLarge(size, pagesFor(alignment));
  const fit = alignedSize(size, alignment);
  return COMPACT ? allocateSlot(fit) : takeAny(fit, false);
}

/** POSIX's form of `allocateAligned`: stores the block in `*result`, returns an error or 0, and leaves errno alone. */
export function allocateAlignedTo(result: usize, alignment: usize, size: usize): i32 {
  if (alignment < sizeof<usize>() || !isPowerOfTwo(alignment)) return EINVAL;
  const block = takeAligned(alignment, size);
  if (!block) return ENOMEM;
  store<usize>(result, block);
  return 0;
}

export function reallocateArray(block: usize, count: usize, size: usize): usize {
  const bytes = <u64>count * <u64>size;
  return bytes >>> 32 ? fail(ENOMEM) : resize(block, <usize>bytes);
}

// The public page allocator.

/** Allocates whole pages at a multiple of `alignment`, any power of two; 0 with EINVAL or ENOMEM. */
export function allocatePages(size: usize, alignment: usize): usize {
  if (!isPowerOfTwo(alignment)) return fail(EINVAL);
  return orFail(HARDENED ? allocatePagesChecked(size, alignment) : allocateLarge(size, pagesFor(alignment)));
}

/** Resizes a page run, in place or by moving it; 0 and ENOMEM, with the run unchanged, when memory is out. */
export function resizePages(run: usize, size: usize): usize {
  if (!run) return allocatePages(size, 1);
  if (HARDENED) return orFail(resizePagesChecked(run, size));
  const old = usableSize(run);
  if (resizeInPlace(runOf(run), size)) return run;
  const moved = orFail(allocateLarge(size, 1));
  if (!moved) return 0;
  copyMemory(moved, run, min(old, size));
  release(run);
  return moved;
}

/** Fills the `struct rsbmallinfo` (rsbmallocc.h) at `out`. */
export function describe(out: usize): void {
  fillMemory(out, 0, INFO_SIZE);
  const bins = out + offsetof<MallInfo>();
  for (let bin: u32 = 0; bin < BINS; ++bin)
    changetype<BinInfo>(bins + bin * offsetof<BinInfo>()).slotSize = slotSize(FIRST_BIN + bin);
  summarize(changetype<MallInfo>(out), bins);
}

/**
 * Fills `info`, and adds each bin's pages and free slots to the BinInfos at `bins`; either may be 0. Returns the bytes
 * in the heap, in the upper half, and those of them that are free, in the lower.
 */
export function summarize(info: MallInfo, bins: usize): u64 {
  lock();
  collect();
  const s = state();
  let freePages: u32 = 0;
  let freeBytes: usize = 0;
  for (let page = s.start; page < s.end;) {
    const run = runAt(page);
    const kind = run.kind;
    const pages = lengthOf(run);
    freePages += u32(isFree(page));
    page += pages;
    if (kind < FIRST_BIN) continue;
    const free = freeSlotsOf(run);
    const used = run.slots - free;
    // No block uses what is left over after the last slot, so it counts as free.
    freeBytes += (pages << PAGE_BITS) - used * run.size;
    // A run without blocks is free in all but name.
    if (bins && used) {
      const bin = changetype<BinInfo>(bins + <usize>(kind - FIRST_BIN) * offsetof<BinInfo>());
      bin.pages += pages;
      bin.freeSlots += free;
    }
  }
  const heap = (<usize>(s.used + freePages)) << PAGE_BITS;
  freeBytes += (<usize>freePages) << PAGE_BITS;
  if (changetype<usize>(info)) {
    info.heap = heap;
    info.inUse = heap - freeBytes;
    info.free = freeBytes;
    info.peak = (<usize>s.peak) << PAGE_BITS;
    info.binCount = BINS;
  }
  unlock();
  return ((<u64>heap) << 32) | freeBytes;
}
