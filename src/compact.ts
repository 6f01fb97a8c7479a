// What the compact builds have in place of the events and never-used slots of src/bins.ts: `free` does at once what is
// due, and all slots of a new run are put into its list.
//
// Each slot of a run is in the run's list or taken; `Run.left` counts those taken. The run is in its bin's ring as long as
// there is a slot in its list. An empty run is freed, unless it is the only one in the ring: a program that oscillates
// around the edge of a run need not remake it each time. Before memory grows, such runs are freed as well.

import { EMSCRIPTEN, END_BIN, FIRST_BIN, LARGE, PAGE_BITS } from "./config";
import {
  BIN_MAX_PAGES,
  Bin,
  FEW_WASTE_BITS,
  KEPT_MAX,
  binAt,
  kindOf,
  popFreed,
  ringOf,
  runPages,
} from "./bins";
import { addFree, findAligned, findFree, freeFrom, takeFree } from "./free-pages";
import { memoryEndPage } from "./memory";
import {
  Run,
  addBefore,
  addressOf,
  freeRun,
  grow,
  hasSpareRun,
  largePages,
  mayGrow,
  pageOf,
  newRun,
  pagesFor,
  makeMetadata,
  remove,
  setKind,
  setRuns,
  use,
} from "./pages";

/** Returns whether a bin has a free slot. */
@inline
export function hasSlot(bin: Bin): bool {
  return !!bin.first.free;
}

/** Takes a slot of a bin, which must have a free one. */
export function popSlot(bin: Bin): usize {
  const run = bin.first;
  const slot = run.free;
  popFreed(run, slot);
  if (!run.free) remove(run);
  return slot;
}

/** Takes a slot of a bin, which gets a new run if need be; 0 when memory is out. */
export function take(bin: Bin): usize {
  return hasSlot(bin) || makeSlots(bin) ? popSlot(bin) : 0;
}

/** Makes a run of slots for a bin. Returns false when memory is out. */
function makeSlots(bin: Bin): bool {
  const size = bin.size;
  let pages = runPages(size, FEW_WASTE_BITS);
  // The last free pages may do for a slot.
  if (EMSCRIPTEN && !mayGrow(pages) && !findFree(pages)) pages = pagesFor(size);
  let run = obtainRun(pages, 1);
  if (!EMSCRIPTEN && !run) run = obtainRun((pages = pagesFor(size)), 1);
  if (!run) return false;
  const slots = run.size / size;
  setKind(run, kindOf(bin), slots);
  run.size = size;
  run.left = 0;
  setRuns(run, pages, run);
  addBefore(ringOf(bin), run);
  let slot = run.start + slots * size;
  do {
    slot -= size;
    store<usize>(slot, run.free);
    run.free = slot;
  } while (slot != run.start);
  return true;
}

/** Returns a block to its run. */
export function putBack(run: Run, block: usize): void {
  store<usize>(block, run.free);
  run.free = block;
  if (!run.next) addBefore(ringOf(binAt(run.kind)), run);
  if (--run.left) return;
  if (run.kind == LARGE || run.size > KEPT_MAX || run.next != run.prev) freeEmpty(run);
}

/** Frees a run that is in a ring. */
function freeEmpty(run: Run): void {
  remove(run);
  freeRun(run);
}

/** Frees the empty runs that bins have kept. */
function tidy(): void {
  for (let i = FIRST_BIN; i < END_BIN; ++i) {
    const run = binAt(i).first;
    if (run != ringOf(binAt(i)) && !run.left) freeEmpty(run);
  }
}

/** Takes `pages` free pages at a multiple of `alignment` pages. Returns the first; 0 when memory is out. */
export function takePages(pages: u32, alignment: u32): u32 {
  let page = findAligned(pages, alignment);
  if (!page) {
    tidy();
    // Another thread may take memory meanwhile, so that what is free is in two pieces. As that may happen each time, ask
    // for more then.
    for (let more = pages; !(page = findAligned(pages, alignment)); more <<= 1) {
      if (!grow(more, alignment, false)) return 0;
    }
  }
  takeFree(page, pages);
  return page;
}

/**
 * Returns a run of kind LARGE with `pages` pages at a multiple of `alignment` pages, which still point to `noRun`; null
 * when memory is out.
 */
export function obtainRun(pages: u32, alignment: u32): Run {
  const page = takePages(pages, alignment);
  if (!page) return changetype<Run>(0);
  if (!hasSpareRun()) {
    const own = takePages(1, 1);
    if (!own) {
      addFree(page, pages);
      return changetype<Run>(0);
    }
    makeMetadata(addressOf(own));
  }
  use(pages);
  return newRun(addressOf(page), pages << PAGE_BITS);
}

/**
 * Resizes a run of kind LARGE in place. Makes memory grow for that if the run is the heap's last and its block could not
 * move to free pages.
 */
export function lengthenRun(run: Run, pages: u32, canGrow: bool): bool {
  const end = pageOf(run.start) + largePages(run);
  const more = pages - largePages(run);
  if (<i32>more > 0) {
    for (let isTidy = false; ; isTidy = true) {
      const free = freeFrom(end, more);
      if (free >= more) break;
      if (!canGrow || findFree(pages)) return false;
      if (!isTidy) tidy();
      // If it is small enough to move to a slot, let it rather than have memory grow.
      else if (pages <= BIN_MAX_PAGES || end + free != memoryEndPage() || !grow(more, 1, false)) return false;
    }
    takeFree(end, more);
  } else {
    addFree(end + more, -more);
  }
  use(more);
  run.size = pages << PAGE_BITS;
  return true;
}
