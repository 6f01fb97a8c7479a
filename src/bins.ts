// Bins: taking and returning slots, making runs of slots, and detecting runs that have become empty. Compact builds use
// the tables and lengths of runs here, and do the rest as in src/compact.ts.
//
// A bin has a range of never-used slots in one run, maybe empty, and a ring of runs with freed slots. `malloc` pops the
// first freed slot of the ring's first run; if there is none, it takes the next never-used slot, without touching the
// memory. `free` pushes a slot onto its run's list: slots of one run are reused together, and soon.
//
// A run counts down the frees until it needs attention. At zero it has an event: `free` only puts the run on a list of
// events, and `settle` does what is due. The slow paths settle some events first, and all of them before memory grows:
//
//     first slot freed                the run becomes the last of its bin's ring, unless it is empty
//     as many slots freed as taken    the run is empty: it becomes free for any use, or its slots count as never used
//     LARGE freed                     the run becomes free for any use
//     NONE freed                      the pointer was invalid: a trap
//
// The countdown, `Run.left`, is:
//
//     in no ring, all slots taken     1
//     in the ring                     the number of slots taken, counting those that were never used
//     on the list of events           QUEUED more than it would be otherwise, so that it does not reach zero again
//
// An empty run is not freed if its bin has no never-used slots: its own count as never used from then on. A program
// that oscillates around the edge of a run need not remake it each time. Before memory grows, such runs are freed as
// well.
//
// Runs of slots larger than KEPT_MAX are long and have few slots. Such a run is often empty, and as long as it is not
// freed, it is in the way of large blocks, so it is always freed. To be recognized as empty even if some of its slots
// were never used, it starts with all of its slots in its list but the first, which is handed out.

import {
  BIN_BITS,
  BIN_MAX,
  BIN_OF,
  BIN_TABLE,
  CACHED,
  CACHE_BIN_BITS,
  COMPACT,
  EMSCRIPTEN,
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
import { alignFound, findFree } from "./free-pages";
import { countFree } from "./free-slots";
import { trapUnlocked } from "./lock";
import {
  Run,
  addBefore,
  freeRun,
  grow,
  hasSpareRun,
  isLast,
  largePages,
  mayGrow,
  pack,
  pageOf,
  pagesFor,
  remove,
  reserve,
  resizeRun,
  runAt,
  setKind,
  setRuns,
  startPages,
  startRing,
  take,
} from "./pages";
import { slotSize } from "./size-classes";

/** Also the sentinel of the ring of the bin's runs, where it looks like a Run without a freed slot. */
@unmanaged
export class Bin {
  /** Always 0, as in a Run without a freed slot. */
  free: usize;
  /** The next never-used slot, and the end of these slots. */
  fresh: usize;
  freshEnd: usize;
  /** The first and the last run of the ring; the bin itself if the ring is empty. */
  first: Run;
  last: Run;
  /** Size of a slot in bytes. */
  size: u32;
  /** Number of pages in all runs of the bin. */
  pages: u32;
}

/**
 * Twice the most slots of a run (512 to a page, four pages): a run on the list of events is not added again, and its
 * `left` shows that it is there.
 */
export const QUEUED: i32 = 1 << 12;

/**
 * A run may be up to GROWTH times as long as necessary: its length is doubled while it is less than
 * 1 / 2^GROWTH_SHARE_BITS of the bin's, unless only shorter runs are free.
 */
const GROWTH: u32 = 4;
const GROWTH_SHARE_BITS: u32 = 3;

/**
 * How much of a run may be left over, as a negative log2: a sixteenth, but an eighth once the run has four slots. Until
 * then it is a quarter if the bin has few pages: a program that needs few blocks of a size is better off with a short
 * run.
 */
export const WASTE_BITS: u32 = 4;
const FOUR_WASTE_BITS: u32 = 3;
export const FEW_WASTE_BITS: u32 = 2;
const FEW_PAGES: u32 = 8;

/** The length in pages of the largest block that may move to a slot. */
export const BIN_MAX_PAGES: u32 = (<u32>BIN_MAX) >>> PAGE_BITS;

/** The largest slots whose empty runs a bin may keep. */
export const KEPT_MAX: u32 = 8192;

/** More pages than a bin's shortest run has: if memory may grow by so many, any slot can be had. */
export const ROOM_TO_GROW: u32 = 16;

/**
 * How many events to settle at a time for lack of a page run, and of a slot. Not all: with many large blocks freed, the
 * next request may fit one of them, and no call should have to do all the work that others have left.
 */
const RUN_EVENTS: u32 = 12;
const SLOT_EVENTS: u32 = 16;


@inline
export function binAt(kind: u32): Bin {
  return changetype<Bin>(STATE + BIN_TABLE + ((<usize>kind) << BIN_BITS));
}


@inline
export function kindOf(bin: Bin): u32 {
  return (<u32>(changetype<usize>(bin) - (STATE + BIN_TABLE))) >>> BIN_BITS;
}

/** Returns the bin of a size below `smallEnd`: its address, or, with caches, the offset of its cell in a cache. */
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

/** Takes `slot`, the first in a run's list of freed slots. */
@inline
export function popFreed(run: Run, slot: usize): void {
  run.free = load<usize>(slot);
  ++run.left;
}

/** Returns whether a bin has never-used slots. */
@inline
export function hasFresh(bin: Bin): bool {
  return bin.fresh != bin.freshEnd;
}

/** Takes the next never-used slot. There must be one. */
@inline
export function takeFresh(bin: Bin): usize {
  const slot = bin.fresh;
  bin.fresh = slot + bin.size;
  return slot;
}

/** Takes a slot that is at hand, freed or never used; 0 if there is none. */
export function takeReady(bin: Bin): usize {
  const run = bin.first;
  const slot = run.free;
  if (slot) {
    popFreed(run, slot);
    return slot;
  }
  return hasFresh(bin) ? takeFresh(bin) : 0;
}

/** Returns a block to its run. */
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

/** Settles all events. Traps if an invalid pointer was freed. */
export function settle(): void {
  settleSome(u32.MAX_VALUE);
}

/** Settles up to `limit` events, the latest first. Traps if an invalid pointer was freed. */
function settleSome(limit: u32): void {
  const s = state();
  for (; limit; --limit) {
    const run = changetype<Run>(s.events);
    if (!run) return;
    s.events = run.event;
    if (run.kind < FIRST_BIN) {
      if (!isFreed(run)) trapUnlocked();
      freeRun(run);
    } else {
      settleSlots(run);
    }
  }
}

function settleSlots(run: Run): void {
  const bin = binAt(run.kind);
  let left = run.left - QUEUED;
  if (run.next) {
    if (!left) remove(run);
  } else if (left <= 0) {
    // Otherwise the event is out of date: all slots were taken again.
    left += <i32>run.slots - 1;
    if (left) addBefore(ringOf(bin), run);
  }
  run.left = left;
  if (left) return;
  run.left = 1;
  run.free = 0;
  if (!offerFresh(bin, run, run.start)) freeEmpty(bin, run);
}

/**
 * Makes the last slots of a run, from `from` on, its bin's never-used ones, unless the bin has others. Returns whether
 * it did.
 */
function offerFresh(bin: Bin, run: Run, from: usize): bool {
  const size = bin.size;
  if (size > KEPT_MAX || hasFresh(bin)) return false;
  bin.fresh = from;
  bin.freshEnd = run.start + run.slots * size;
  return true;
}

function freeEmpty(bin: Bin, run: Run): void {
  bin.pages -= freeRun(run);
}

/** Frees the runs whose slots are all free or never used. */
function freeUnused(): void {
  for (let i = FIRST_BIN; i < END_BIN; ++i) {
    const bin = binAt(i);
    const fresh = bin.fresh;
    const bytes = bin.freshEnd - fresh;
    if (!bytes) continue;
    const run = runAt(pageOf(fresh));
    if (fresh != run.start) {
      // Are all slots free that were ever used? Then the never-used ones alone count as taken.
      if (!run.next || <u32>run.left != <u32>bytes / bin.size) continue;
      remove(run);
    }
    bin.fresh = fresh + bytes;
    freeEmpty(bin, run);
  }
}

/**
 * Returns a run of kind LARGE with `pages` pages at a multiple of `alignment` pages, which still point to `noRun`; null
 * when memory is out. If memory would have to grow for that, or can't, but not for `least` pages, returns a run of
 * those.
 */
export function obtainRun(pages: u32, least: u32, alignment: u32): Run {
  if (!HARDENED) settleSome(RUN_EVENTS);
  let isTidy = false;
  let extra: u32 = 0;
  while (true) {
    const canTake = hasSpareRun();
    let page: u32 = 0;
    // Rather than make a page of Runs, see whether some have become spare.
    if (canTake || isTidy) {
      page = findFree(pages);
      if (!page && pages > least) {
        page = findFree(least);
        if (page) pages = least;
      }
      page = alignFound(page, pages, alignment);
      if (page && canTake) return take(page, pages);
    }
    if (!isTidy) {
      tidy(pages + alignment - 1);
      isTidy = true;
    } else {
      const isTry = pages > least;
      if (!(page ? reserve(page, pages, isTry) : grow(pages + extra, alignment, isTry))) {
        if (!isTry) return changetype<Run>(0);
        // With fewer pages, there may be one for Runs as well.
        pages = least;
      } else if (LOCKED) {
        extra += pages + alignment;
      }
    }
    // Even after growth the search may fail: an aligned run may miss its place because the map moved there, or, if
    // another thread grew linear memory as well, what is free may be in two pieces. Then grow again, and by more in case
    // that happens each time.
  }
}

/** Settles all events, frees unused runs, and moves the map if that may make room for `pages` pages. */
function tidy(pages: u32): void {
  const s = state();
  if (!HARDENED) {
    settle();
    freeUnused();
  }
  if (s.end - s.start - s.used >= pages && !findFree(pages)) pack();
}

/**
 * Like `resizeRun`, but if the run's block could not move to free pages either, frees unused runs, which may lie behind
 * it, and makes memory grow if the run is the heap's last.
 */
export function lengthenRun(run: Run, pages: u32): bool {
  for (let tries = 0; !resizeRun(run, pages); ++tries) {
    // In the end the new pages may not adjoin the run: the map may have moved there.
    if (tries > 1 || findFree(pages)) return false;
    if (!tries) tidy(pages);
    // The block may still move to a free slot if it is small enough: then growing is only a try.
    else if (!isLast(run) || !grow(pages - largePages(run), 1, pages <= BIN_MAX_PAGES)) return false;
  }
  return true;
}

/** Sets up the heap, unless that was done before. Returns false when memory is out. */
@inline
export function ensureStarted(): bool {
  return !!state().magic || start();
}

function start(): bool {
  if (!startPages(0)) return false;
  let size: usize = 0;
  // Compact builds also put freed large blocks into a ring, for the moment: src/compact.ts.
  for (let i = COMPACT ? LARGE : FIRST_BIN; i < END_BIN; ++i) {
    const bin = binAt(i);
    startRing(ringOf(bin));
    bin.size = slotSize(i);
    if (COMPACT && !CACHED) continue;
    const entry = CACHED ? (<usize>max(i, LEAST_BIN)) << CACHE_BIN_BITS : changetype<usize>(bin);
    for (; size <= bin.size && size <= SMALL_MAX; size += 4) store<usize>(STATE + size, entry, BIN_OF);
  }
  // A hardened heap has yet to get its wall page.
  if (!HARDENED && !COMPACT) state().smallEnd = SMALL_MAX + 1;
  state().magic = MAGIC;
  return true;
}

/**
 * Returns the length in pages of a run of slots of `size` bytes: the shortest of which at most 1 / 2^wasteBits is left
 * over, or 1 / 2^FOUR_WASTE_BITS if it has four slots or more.
 */
export function runPages(size: u32, wasteBits: u32): u32 {
  let bytes: u32 = (size + (PAGE - 1)) & -PAGE;
  while (bytes % size > bytes >>> (bytes < size * 4 ? wasteBits : FOUR_WASTE_BITS)) bytes += PAGE;
  return bytes >>> PAGE_BITS;
}

/** Takes a slot of a bin that has none at hand; 0 when memory is out. */
export function takeSlow(bin: Bin): usize {
  const slot = takeFreed(bin);
  if (slot) return slot;
  const size = bin.size;
  const run = obtainSlots(bin, size);
  // There are no pages, but settling events meanwhile may have freed a slot.
  if (!run) return takeFreed(bin);
  const bytes = run.size;
  setKind(run, kindOf(bin), bytes / size);
  run.size = size;
  setRuns(run, bytes >>> PAGE_BITS, run);
  bin.pages += bytes >>> PAGE_BITS;
  const first = run.start;
  if (!offerFresh(bin, run, first + size)) listSlots(bin, run, size);
  return first;
}

/** Puts a run's slots except the first into its list and, if there are any, the run into its bin's ring. */
@inline
function listSlots(bin: Bin, run: Run, size: u32): void {
  const first = run.start;
  let slot = first + run.slots * size;
  while ((slot -= size) != first) {
    store<usize>(slot, run.free);
    run.free = slot;
  }
  if (run.free) addBefore(ringOf(bin), run);
}

/**
 * Settles events until there is a slot at hand, and takes it. Returns 0 if there is none after the last event, or once
 * there are free pages for a new run.
 */
function takeFreed(bin: Bin): usize {
  do {
    settleSome(SLOT_EVENTS);
    const run = bin.first;
    // All slots of the run are taken. It leaves the ring, but stays on the list of events if it is there.
    if (run != ringOf(bin) && !run.free) {
      remove(run);
      run.left = (run.left & QUEUED) | 1;
    }
    const slot = takeReady(bin);
    if (slot) return slot;
  } while (state().events && !findFree(runPages(bin.size, WASTE_BITS)));
  return 0;
}

/** Returns a run of kind LARGE for slots of a bin, which are of `size` bytes; null when memory is out. */
@inline
function obtainSlots(bin: Bin, size: u32): Run {
  let least = runPages(size, bin.pages < FEW_PAGES ? FEW_WASTE_BITS : WASTE_BITS);
  let pages = least;
  while (pages < bin.pages >>> GROWTH_SHARE_BITS && pages < least * GROWTH) pages <<= 1;
  // Longer runs of 512, 640, 768 and 896 B, whose highest bit is bit 9, have 4 to 7 pages: nothing is left over.
  if (pages > 1 && clz(size) == 22) pages = size >>> 7;
  // Leave out pages at the end that no slot reaches.
  pages = pagesFor(((pages << PAGE_BITS) / size) * size);
  // The last free pages may do for a slot.
  const fewest = pagesFor(size);
  if (EMSCRIPTEN && !mayGrow(pages)) least = fewest;
  const run = obtainRun(pages, least, 1);
  return EMSCRIPTEN || run ? run : obtainRun(fewest, fewest, 1);
}

/** Returns whether the run of an event is that of a large block that was freed, exactly once. */
@inline
export function isFreed(run: Run): bool {
  // One branch for three conditions.
  return !((run.kind ^ LARGE) | (run.left ^ QUEUED) | (<u32>(run.free ^ run.start)));
}

/** Returns how many of a run's slots are free, including those never used. All events must be settled. */
export function freeSlotsOf(run: Run): u32 {
  if (HARDENED) return countFree(run);
  if (COMPACT) return run.slots - run.left;
  const bin = binAt(run.kind);
  let free: u32 = run.next ? run.slots - run.left : 0;
  // If the bin has no never-used slots, this adds 0.
  if (runAt(pageOf(bin.fresh)) == run) free += <u32>(bin.freshEnd - bin.fresh) / bin.size;
  return free;
}
