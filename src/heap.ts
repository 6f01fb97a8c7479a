// The heap as a C programmer means it: allocate, free, resize, align, measure.

import {
  BINS,
  BIN_MAX,
  CACHED,
  EINVAL,
  ENOMEM,
  FIRST_BIN,
  FREE,
  FREE_MASK,
  HARDENED,
  LARGE,
  LOCKED,
  NONE,
  PAGE,
  PAGE_BITS,
  SMALL_MAX,
  state,
} from "./config";
import { getErrno, setErrno } from "./errno";
import { collect, flush, listHead, obtainRun, refill, setListHead, smallBin } from "./bins";
import { breakBatches, emptyCache, makeRoom, putCached, releaseSlow, takeCached, takeSlot } from "./caches";
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
import { lock, unlock } from "./lock";
import { copyMemory, fillMemory } from "./memory";
import { addressOf, extendRun, freeRun, infoOf, kindOf, pageOf, pagesFor, setKind, shrinkRun } from "./pages";
import { binOfSize, slotSize } from "./size-classes";

/** Up to here a loop over words is faster than the engine's `memory.copy` and `memory.fill`, in bytes. */
const WORDWISE_MAX: usize = 256;


@inline
function isPowerOfTwo(n: usize): bool {
  return n && !(n & (n - 1));
}

/** What `rsbmallinfo` tells of a bin. */
@unmanaged
class BinInfo {
  slotSize: usize;
  pages: usize;
  freeSlots: usize;
}

/** What `rsbmallinfo` tells, in bytes. A BinInfo for each bin follows. */
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

/** A block of `size` bytes; 0 and ENOMEM when memory is out. Takes the first free slot of the bin, if there is one. */
export function allocate(size: usize): usize {
  if (HARDENED) return orFail(allocateChecked(size, 0));
  if (CACHED && size <= SMALL_MAX) {
    const slot = takeCached(smallBin(size));
    if (slot) return slot;
  }
  if (!LOCKED && size <= SMALL_MAX) {
    const bin = smallBin(size);
    const slot = listHead(bin);
    if (slot) {
      setListHead(bin, load<usize>(slot));
      return slot;
    }
  }
  return allocateSlow(size);
}

/** The same for any size, when a call costs little beside the rest. */
function allocateSlow(size: usize): usize {
  return size > BIN_MAX ? allocateLarge(size, 1) : allocateSlot(binOfSize(size));
}

/** A slot of a bin, which is refilled if need be. */
function allocateSlot(bin: u32): usize {
  if (CACHED) {
    const slot = takeSlot(bin);
    return slot ? slot : fail(ENOMEM);
  }
  lock();
  let slot = listHead(bin);
  if (!slot) slot = refill(bin);
  if (slot) setListHead(bin, load<usize>(slot));
  unlock();
  return slot ? slot : fail(ENOMEM);
}

/** A page run for `size` bytes that starts at a multiple of `alignment` pages, a power of two. */
function allocateLarge(size: usize, alignment: u32): usize {
  lock();
  const block = takeLarge(size, alignment);
  unlock();
  return block ? block : fail(ENOMEM);
}

/** The same with 0 for an answer, but no errno, when memory is out. Needs the lock. */
function takeLarge(size: usize, alignment: u32): usize {
  if (<isize>size < 0) return 0;
  const pages = max<u32>(pagesFor(size), 1);
  const spare = alignment - 1;
  // The block freed last may be just as long, and has not been given back yet.
  const last = listHead(LARGE);
  if (last && !spare && !(last & (PAGE - 1)) && infoOf(pageOf(last)).pages == pages) {
    setListHead(LARGE, load<usize>(last));
    return last;
  }
  if (CACHED) makeRoom(pages + spare);
  let run = obtainRun(pages + spare);
  if (CACHED && !run && emptyCache()) run = obtainRun(pages + spare);
  if (!run) return 0;
  const page = (run + spare) & ~spare;
  if (page > run) freeRun(run, page - run);
  shrinkRun(page, pages + spare - (page - run), pages);
  setKind(page, LARGE);
  infoOf(page).pages = pages;
  return addressOf(page);
}

/** Ends a block. Large ones, and addresses that are no block's, wait on their lists for `flush`. */
export function release(block: usize): void {
  if (!block) return;
  if (HARDENED) {
    releaseChecked(block);
    return;
  }
  const kind = kindOf(pageOf(block));
  if (CACHED) {
    if (!putCached(kind, block)) releaseSlow(kind, block);
    return;
  }
  lock();
  store<usize>(block, listHead(kind));
  setListHead(kind, block);
  unlock();
}

/** `release`, for a caller who says how large the block is and, unless that is 0, at what alignment it was asked for. */
export function releaseSized(block: usize, alignment: usize, size: usize): void {
  if (HARDENED && block) expectBlock(block, size, alignment);
  release(block);
}

/** Looks for damage, and traps if there is any: everywhere in a hardened build, in others in what waits to be free. */
export function check(): void {
  if (HARDENED) {
    checkHeap();
    return;
  }
  lock();
  if (CACHED) {
    breakBatches();
    emptyCache();
  }
  flush();
  collect(FIRST_BIN);
  unlock();
}

/** The bytes that a block has room for. */
export function usableSize(block: usize): usize {
  if (!block) return 0;
  if (HARDENED) return sizeChecked(block);
  const page = pageOf(block);
  const kind = kindOf(page);
  if (kind < LARGE) unreachable();
  if (kind != LARGE) return slotSize(kind);
  lock();
  const bytes = infoOf(page).pages << PAGE_BITS;
  unlock();
  return bytes;
}

/** Resizes the page run of a large block where it lies. Returns whether it could. */
export function resizeInPlace(page: u32, size: usize): bool {
  lock();
  const resized = resizeRun(page, max<u32>(pagesFor(size), 1));
  unlock();
  return resized;
}

function resizeRun(page: u32, to: u32): bool {
  const from = <u32>infoOf(page).pages;
  flush();
  if (to > from && !extendRun(page, from, to)) return false;
  shrinkRun(page, from, to);
  infoOf(page).pages = to;
  return true;
}

/** Resizes a block, in place or by moving it; 0 and ENOMEM, with the block as it was, when memory is out. */
export function resize(block: usize, size: usize): usize {
  if (!block) return allocate(size);
  if (HARDENED) return orFail(resizeChecked(block, size));
  const old = usableSize(block);
  const page = pageOf(block);
  if (kindOf(page) == LARGE) {
    if (old - size < PAGE) return block;
    if (<isize>size < 0) return fail(ENOMEM);
    // A run that a slot would hold better moves there.
    if (size > BIN_MAX >>> 1 && resizeInPlace(page, size)) return block;
  } else if (size <= old && (size >= old >>> 1 || old <= 64)) {
    return block;
  }
  // `copy` moves double words, so not into a slot of 4 B.
  const moved = allocateSlow(max<usize>(size, 8));
  if (!moved) return size <= old ? block : 0;
  copy(moved, block, min(old, size));
  release(block);
  return moved;
}

/** Copies whole double words, but for a slot of 4 B: what lies behind any other block that is read does no harm. */
@inline
function copy(to: usize, from: usize, bytes: usize): void {
  if (bytes > WORDWISE_MAX) {
    copyMemory(to, from, bytes);
    return;
  }
  if (bytes <= 4) store<u32>(to, load<u32>(from));
  else for (let i: usize = 0; i < bytes; i += 8) store<u64>(to + i, load<u64>(from + i));
}

/** A block of `count * size` zero bytes. */
export function allocateZeroed(count: usize, size: usize): usize {
  const product = <u64>count * <u64>size;
  if (product > <u64>isize.MAX_VALUE) return fail(ENOMEM);
  let bytes = <usize>product;
  if (HARDENED) return allocate(bytes);
  let block: usize;
  if (bytes <= BIN_MAX) {
    block = allocate(bytes);
    if (!block) return 0;
  } else {
    lock();
    const fresh = state().fresh;
    block = takeLarge(bytes, 1);
    unlock();
    if (!block) return fail(ENOMEM);
    // Pages that were never handed out before are zero.
    const page = pageOf(block);
    bytes = page < fresh ? min(bytes, (<usize>(fresh - page)) << PAGE_BITS) : 0;
  }
  if (bytes > WORDWISE_MAX) fillMemory(block, 0, bytes);
  else if (bytes <= 4) store<u32>(block, 0);
  else for (let i: usize = 0; i < bytes; i += 8) store<u64>(block + i, 0);
  return block;
}

/** A block at a multiple of `alignment`, any power of two; 0 and EINVAL for any other. */
export function allocateAligned(alignment: usize, size: usize): usize {
  if (!isPowerOfTwo(alignment)) return fail(EINVAL);
  if (<isize>size < 0) return fail(ENOMEM);
  if (HARDENED) return orFail(allocateChecked(size, alignment));
  const slot = max(size, alignment);
  if (slot <= BIN_MAX && alignment < PAGE) {
    // Runs start at a page, so a slot is aligned when its size is a multiple of the alignment. BIN_MAX is.
    let bin = binOfSize(slot);
    while (slotSize(bin) & (<u32>alignment - 1)) ++bin;
    return allocateSlot(bin);
  }
  return allocateLarge(size, pagesFor(alignment));
}

/** `allocateAligned` as POSIX has it: the block goes to `*result`, errors are returned, errno is left alone. */
export function allocateAlignedTo(result: usize, alignment: usize, size: usize): i32 {
  if (alignment < sizeof<usize>() || !isPowerOfTwo(alignment)) return EINVAL;
  const error = getErrno();
  const block = allocateAligned(alignment, size);
  setErrno(error);
  if (!block) return ENOMEM;
  store<usize>(result, block);
  return 0;
}

export function reallocateArray(block: usize, count: usize, size: usize): usize {
  const bytes = <u64>count * <u64>size;
  return bytes >>> 32 ? fail(ENOMEM) : resize(block, <usize>bytes);
}

// The page allocator, public.

/** A run of whole pages at a multiple of `alignment`, any power of two; 0 with EINVAL or ENOMEM. */
export function allocatePages(size: usize, alignment: usize): usize {
  if (!isPowerOfTwo(alignment)) return fail(EINVAL);
  if (HARDENED) return orFail(allocatePagesChecked(size, alignment));
  return allocateLarge(size, pagesFor(alignment));
}

/** Resizes a run, in place or by moving it; 0 and ENOMEM, with the run as it was, when memory is out. */
export function resizePages(run: usize, size: usize): usize {
  if (!run) return allocatePages(size, 1);
  if (<isize>size < 0) return fail(ENOMEM);
  if (HARDENED) return orFail(resizePagesChecked(run, size));
  const old = usableSize(run);
  if (resizeInPlace(pageOf(run), size)) return run;
  const moved = allocateLarge(size, 1);
  if (!moved) return 0;
  copyMemory(moved, run, min(old, size));
  release(run);
  return moved;
}

/** Writes what `struct rsbmallinfo` of rsbmallocc.h holds to `out`. */
export function describe(out: usize): void {
  memory.fill(out, 0, INFO_SIZE);
  const bins = out + offsetof<MallInfo>();
  for (let bin: u32 = 0; bin < BINS; ++bin)
    changetype<BinInfo>(bins + bin * offsetof<BinInfo>()).slotSize = slotSize(FIRST_BIN + bin);
  summarize(changetype<MallInfo>(out), bins);
}

/** Fills `info`, and counts each bin's pages and free slots in the BinInfos at `bins`, unless that is 0. */
export function summarize(info: MallInfo, bins: usize): void {
  lock();
  if (CACHED) {
    breakBatches();
    emptyCache();
  }
  if (HARDENED) emptyQuarantine();
  flush();
  collect(FIRST_BIN);
  const s = state();
  let freePages: u32 = 0;
  let freeSlots: usize = 0;
  for (let page = s.start; page < s.end;) {
    const kind = kindOf(page);
    const pageInfo = infoOf(page);
    if (kind == FREE) freePages += <u32>pageInfo.pages;
    if (kind < FIRST_BIN) {
      page += kind == NONE ? 1 : <u32>pageInfo.pages;
      continue;
    }
    const free = max<i32>(pageInfo.free, 0) & FREE_MASK;
    freeSlots += <usize>free * slotSize(kind);
    if (bins) {
      const bin = changetype<BinInfo>(bins + <usize>(kind - FIRST_BIN) * offsetof<BinInfo>());
      ++bin.pages;
      bin.freeSlots += free;
    }
    ++page;
  }
  info.heap = (<usize>(s.used + freePages)) << PAGE_BITS;
  info.inUse = ((<usize>s.used) << PAGE_BITS) - freeSlots;
  info.free = info.heap - info.inUse;
  info.peak = (<usize>s.peak) << PAGE_BITS;
  info.binCount = BINS;
  unlock();
}
