// Bins: taking slots and giving them back, making new runs of them, and finding out which runs have become empty.
//
// A bin has a run whose slots were never used, some or none, and a ring of runs with slots that were freed. `malloc`
// takes the first freed slot of the ring's first run; if that has none, the next slot that was never used, without a look
// at memory. `free` puts a slot first in its run's list: slots of one run are used again together, and soon.
//
// A run counts down the frees that are left until something has to be done for it. `free` only puts the run on a list of
// those with an event then; `settle` does what is due. Each slower call begins with some of them, and sees to all before
// memory grows:
//
//     freed for the first time    the run becomes the last of its bin's ring, unless it is empty
//     freed as often as taken     the run is empty: it is free for any use
//     LARGE, freed                the same
//     NONE, freed                 the pointer was wrong: a trap
//
//     left   in no ring, all slots taken    1
//            in the ring                    slots taken; those that were never used count as such
//            on the list of events          QUEUED more than it would be, which further frees do not use up
//
// A bin keeps one empty run, out of the ring, for when it has no other slots: a program that goes to and fro about a run's
// edge need not make it again each time. Before memory grows these go as well.
//
// Slots that are larger than a page are few to a run: a run is often empty and, for as long as it is not free, in the way of
// large blocks. So it is not kept, and to be known for empty even if some of its slots were never used, it begins with all
// in its list but the first, which is handed out.

import {
  BIN_BITS,
  BIN_OF,
  BIN_TABLE,
  CACHED,
  CACHE_BIN_BITS,
  END_BIN,
  FIRST_BIN,
  HARDENED,
  LARGE,
  LEAST_BIN,
  LOCKED,
  MAGIC,
  PAGE,
  PAGE_BITS,
  SMALL_MAX,
  STATE,
  state,
} from "./config";
import { findAligned, findFree } from "./free-pages";
import { countFree } from "./free-slots";
import { trapUnlocked } from "./lock";
import {
  Run,
  addBefore,
  extendRun,
  freeRun,
  grow,
  hasSpareRun,
  isLast,
  pack,
  pageOf,
  pagesFor,
  pagesOf,
  remove,
  runAt,
  setKind,
  setRuns,
  startPages,
  startRing,
  take,
} from "./pages";
import { slotSize } from "./size-classes";

/** Stands in the ring of the bin's runs like a Run that has no free slot. */
@unmanaged
export class Bin {
  /** Always 0. */
  free: usize;
  /** The next slot that was never used, and the end of these. */
  fresh: usize;
  freshEnd: usize;
  /** The first and the last run of the ring; the bin itself if there is none. */
  first: Run;
  last: Run;
  /** An empty run, in no ring; null if there is none. */
  kept: Run;
  /** Bytes of a slot. */
  size: u32;
  /** In all its runs. */
  pages: u32;
}

/** Twice what a run has of slots, 512 to a page at most: an event that is waiting comes once, and can be told. */
export const QUEUED: i32 = 1 << 12;

/**
 * A run is as many times as long as it must be, as long as that is no more than a part of what the bin has. It is no
 * longer than that where only short runs are free. Where there are threads, blocks lie scattered over more runs; and thread
 * caches, which take a batch at a time, feel little of how many there are.
 */
const GROWTH: u32 = CACHED ? 1 : LOCKED ? 2 : 4;
const GROWTH_SHARE_BITS: u32 = 3;

/**
 * A run wastes a sixteenth of its pages at most, but an eighth once it has four slots, and a quarter as long as its bin has few
 * pages: a program that wants few blocks of a size is better served by a short run.
 */
export const WASTE_BITS: u32 = 4;
const FOUR_WASTE_BITS: u32 = 3;
const FEW_WASTE_BITS: u32 = 2;
const FEW_PAGES: u32 = 8;

/**
 * So many runs with events are seen to at a time, for want of a page run and of a slot: with many large blocks freed, the next may
 * fit one of them, and a call is not to do all that others have left.
 */
const RUN_EVENTS: u32 = 24;
const SLOT_EVENTS: u32 = 32;


@inline
export function binAt(bin: u32): Bin {
  return changetype<Bin>(STATE + BIN_TABLE + ((<usize>bin) << BIN_BITS));
}

/** The bin of a size below `smallEnd`: its address; in a build with caches where in a cache it is. */
@inline
export function smallBin(size: usize): usize {
  return load<usize>(STATE + ((size + 3) & ~3), BIN_OF);
}


@inline
export function ringOf(bin: Bin): Run {
  if (offsetof<Bin>("free") != offsetof<Run>("free")) ERROR("a Bin has its free slots elsewhere than a Run");
  if (offsetof<Bin>("first") != offsetof<Run>("next"))
    ERROR("a Bin has its first run elsewhere than a Run its next");
  if (offsetof<Bin>("last") != offsetof<Run>("prev"))
    ERROR("a Bin has its last run elsewhere than a Run its previous");
  return changetype<Run>(bin);
}

/** Takes `slot`, the first freed one of a run. */
@inline
export function popFreed(run: Run, slot: usize): void {
  run.free = load<usize>(slot);
  ++run.left;
}

/** Whether a bin has slots that were never used. */
@inline
export function hasFresh(bin: Bin): bool {
  return bin.fresh != bin.freshEnd;
}

/** Takes one of them. */
@inline
export function takeFresh(bin: Bin): usize {
  const slot = bin.fresh;
  bin.fresh = slot + bin.size;
  return slot;
}

/** Takes a slot that is at hand; 0 if there is none. */
export function takeReady(bin: Bin): usize {
  const run = bin.first;
  const slot = run.free;
  if (slot) {
    popFreed(run, slot);
    return slot;
  }
  return hasFresh(bin) ? takeFresh(bin) : 0;
}

/** Gives a block back to its run. */
@inline
export function putBack(run: Run, block: usize): void {
  store<usize>(block, run.free);
  run.free = block;
  if (!--run.left) {
    const s = state();
    run.left = QUEUED;
    run.event = s.events;
    s.events = changetype<usize>(run);
  }
}

/** Does what is due for runs with events. Traps if a wrong pointer was freed. */
export function settle(): void {
  settleSome(u32.MAX_VALUE);
}

/** The same, for so many of them at most, the latest. */
function settleSome(most: u32): void {
  const s = state();
  for (let i: u32 = 0; s.events && i < most; ++i) {
    const run = changetype<Run>(s.events);
    s.events = run.event;
    run.left -= QUEUED;
    if (run.kind >= FIRST_BIN) settleSlots(run);
    else if (run.kind != LARGE || run.left || run.free != run.start) trapUnlocked();
    else freeRun(run);
  }
}

function settleSlots(run: Run): void {
  const bin = binAt(run.kind);
  if (!run.next) {
    // All its slots were taken again.
    if (run.left > 0) return;
    run.left += run.slots - 1;
    if (run.left) addBefore(ringOf(bin), run);
  } else if (!run.left) remove(run);
  if (run.left) return;
  if (bin.kept || run.size > PAGE) freeEmpty(bin, run);
  else bin.kept = run;
}

function freeEmpty(bin: Bin, run: Run): void {
  bin.pages -= pagesOf(run);
  freeRun(run);
}

/** Frees the runs that bins have though no slot is in use. */
function freeUnused(): void {
  for (let i = FIRST_BIN; i < END_BIN; ++i) {
    const bin = binAt(i);
    const kept = bin.kept;
    if (kept) {
      bin.kept = changetype<Run>(0);
      freeEmpty(bin, kept);
    }
    const fresh = bin.freshEnd - bin.fresh;
    if (!fresh) continue;
    // Are all slots free that were ever used?
    const run = runAt(pageOf(bin.fresh));
    if (!run.next || <u32>run.left != <u32>fresh / bin.size) continue;
    bin.fresh = bin.freshEnd;
    remove(run);
    freeEmpty(bin, run);
  }
}

/**
 * A run for a large block of `pages`, which lead nowhere yet; of `least` at a multiple of `alignment` where memory would have to
 * grow for more, and need not for these. Null when memory is out.
 */
export function obtainRun(pages: u32, least: u32, alignment: u32): Run {
  const s = state();
  if (!s.magic && !start()) return changetype<Run>(0);
  if (!HARDENED) {
    settleSome(RUN_EVENTS);
    if (!hasSpareRun()) {
      settle();
      freeUnused();
    }
  }
  let isTidy = false;
  while (true) {
    let page = findFree(pages);
    if (!HARDENED && !page && pages > least && (page = findAligned(least, alignment))) pages = least;
    if (page) return take(page, pages);
    if (!isTidy) {
      tidy(pages);
      isTidy = true;
      continue;
    }
    // Another thread's own growth of linear memory may leave what is free in two pieces: then once more.
    // And where growth stopped short, the map may have left a run that is long enough.
    const isTry = alignment == 1 && pages > least;
    if (grow(pages, isTry) || findFree(pages)) continue;
    if (!isTry) return changetype<Run>(0);
    pages = least;
  }
}

/** Frees what can be without a call's block, and moves the map if that may make room for `pages`. */
function tidy(pages: u32): void {
  const s = state();
  if (!HARDENED) {
    settle();
    freeUnused();
  }
  if (s.end - s.start - s.used >= pages && !findFree(pages)) pack();
}

/** `extendRun`, for which memory grows if the run is the heap's last, and the block could not move to free memory either. */
export function lengthenRun(run: Run, pages: u32): bool {
  if (extendRun(run, pages)) return true;
  if (!isLast(run) || findFree(pages)) return false;
  tidy(pages);
  return (
    extendRun(run, pages) ||
    (!findFree(pages) && grow(pages - (run.size >>> PAGE_BITS), false) && extendRun(run, pages))
  );
}

/** Returns whether there was memory for it. */
function start(): bool {
  if (!startPages()) return false;
  let size: usize = 0;
  for (let i = FIRST_BIN; i < END_BIN; ++i) {
    const bin = binAt(i);
    startRing(ringOf(bin));
    bin.size = slotSize(i);
    const entry = CACHED ? (<usize>max(i, LEAST_BIN)) << CACHE_BIN_BITS : changetype<usize>(bin);
    const end = min<usize>(bin.size, SMALL_MAX);
    for (; size <= end; size += 4) store<usize>(STATE + size, entry, BIN_OF);
  }
  state().smallEnd = SMALL_MAX + 1;
  state().magic = MAGIC;
  return true;
}

/** Pages of a run for slots of `size` bytes: as few as waste no more than a part of them, larger if there are four slots. */
export function runPages(size: u32, wasteBits: u32): u32 {
  let bytes: u32 = (size + (PAGE - 1)) & -PAGE;
  while (bytes % size > bytes >>> (bytes < size * 4 ? wasteBits : FOUR_WASTE_BITS)) bytes += PAGE;
  return bytes >>> PAGE_BITS;
}

/** A slot of a bin that has none at hand; 0 when memory is out. */
export function takeSlow(kind: u32): usize {
  const slot = takeFreed(kind);
  if (slot) return slot;
  if (!state().magic && !start()) return 0;
  const bin = binAt(kind);
  let run = bin.kept;
  bin.kept = changetype<Run>(0);
  if (!run) {
    run = newSlots(kind);
    // What was seen to meanwhile may have brought a slot, but no pages.
    if (!run) return takeFreed(kind);
  }
  run.left = 1;
  run.free = 0;
  const size = bin.size;
  const first = run.start;
  const end = first + run.slots * size;
  if (size > PAGE) listSlots(run, first + size, end);
  else {
    // All of them are as good as never used.
    bin.fresh = first + size;
    bin.freshEnd = end;
  }
  return first;
}

/** Puts the slots of a run from `from` to `end` into its list, and if there are any, the run into its bin's ring. */
@inline
function listSlots(run: Run, from: usize, end: usize): void {
  if (from == end) return;
  addBefore(ringOf(binAt(run.kind)), run);
  do {
    end -= run.size;
    store<usize>(end, run.free);
    run.free = end;
  } while (end != from);
}

/** A slot of a run that has slots in use, after what is due; 0 if there is none at once, and pages for a new run are. */
export function takeFreed(kind: u32): usize {
  if (!state().magic) return 0;
  const bin = binAt(kind);
  do {
    settleSome(SLOT_EVENTS);
    const run = bin.first;
    // It may still wait for something to be done.
    if (run != ringOf(bin) && !run.free) {
      remove(run);
      run.left = (run.left & QUEUED) | 1;
    }
    const slot = takeReady(bin);
    if (slot) return slot;
  } while (state().events && !findFree(runPages(bin.size, WASTE_BITS)));
  return 0;
}

/** Makes a run of slots for a bin; null when memory is out. */
function newSlots(kind: u32): Run {
  const bin = binAt(kind);
  const size = bin.size;
  const least = runPages(size, bin.pages < FEW_PAGES ? FEW_WASTE_BITS : WASTE_BITS);
  let pages = least;
  while (pages < bin.pages >>> GROWTH_SHARE_BITS && pages < least * GROWTH) pages <<= 1;
  // Where slots end well before the last page, it is not for them.
  pages = pagesFor(((pages << PAGE_BITS) / size) * size);
  const run = obtainRun(pages, least, 1);
  if (!run) return run;
  const bytes = run.size;
  setKind(run, kind, bytes / size);
  run.size = size;
  setRuns(run, run);
  bin.pages += bytes >>> PAGE_BITS;
  return run;
}

/** Whether a large block was freed, once, and waits for `settle`. */
@inline
export function isFreed(run: Run): bool {
  return run.left == QUEUED && run.free == run.start;
}

/** How many of a run's slots are free after `settle`, those that were never used included. */
export function freeSlotsOf(run: Run): u32 {
  if (HARDENED) return countFree(run);
  const bin = binAt(run.kind);
  const fresh = bin.freshEnd - bin.fresh;
  const isFresh = fresh && runAt(pageOf(bin.fresh)) == run;
  const freed = run.next || run == bin.kept ? run.slots - run.left : 0;
  return freed + (isFresh ? <u32>fresh / bin.size : 0);
}
