// The heap of the hardened build: every block is guarded, and a bug in the program traps as soon as it can be detected.
// It replaces the free lists of the bins. src/guards.ts draws the layout of a slot.
//
// - Each run of slots has a bitmap of its free slots (src/free-slots.ts) and hands them out in an order that cannot be
//   predicted. A bin has a ring of the runs with free slots; empty runs are at its end, and go back to the page
//   allocator before memory grows.
// - A freed block is wiped and waits in a FIFO quarantine before its slot is free. A write to it, then or later, is
//   detected when the slot is handed out again, when its run is given back, or by a check of the whole heap.
// - A large block is a page run with a guard byte after the block's last byte. Free pages are zero, like all memory that
//   no block uses. A new run does not begin where a recently freed large block did, unless there is no room elsewhere;
//   one page further on is enough.
// - A zero-size block has an address in the last wasm page below 4 GiB, which the heap never reaches.
//
// There are no events here (src/bins.ts), and some fields have another meaning:
//
//                  for a run of slots                for a large block
//     Run.left     unused                            log2 of its alignment, 0 for a block from `malloc`
//     Run.free     bitmap of the free slots          its size in bytes
//     Bin.first    first of the runs with free slots

import {
  BINS,
  BIN_MAX,
  BIN_OF,
  EMSCRIPTEN,
  END_BIN,
  FIRST_BIN,
  GONE,
  GONE_BLOCKS,
  LARGE,
  MEDIUM_QUARANTINE,
  PAGE,
  PAGE_BITS,
  QUARANTINE,
  QUARANTINE_SLOTS,
  RUN_STEP,
  SMALL_MAX,
  SMALL_QUARANTINE,
  STATE,
  ZERO_BLOCKS,
  ZERO_BLOCK_COUNT,
  guards,
  state,
} from "./config";
import {
  Bin,
  ROOM_TO_GROW,
  WASTE_BITS,
  binAt,
  ensureStarted,
  lengthenRun,
  obtainRun,
  ringOf,
  runPages,
  smallBin,
} from "./bins";
import {
  rsbmalloc_alignment_mismatch,
  rsbmalloc_corruption,
  rsbmalloc_double_free,
  rsbmalloc_invalid_free,
  rsbmalloc_overflow,
  rsbmalloc_size_mismatch,
  rsbmalloc_use_after_free,
} from "./faults";
import {
  freeAll,
  give,
  isListed,
  isSoundAccount,
  isUnused,
  readySlots,
  slotNumber,
  takeAny,
  turnOver,
  wasUsed,
} from "./free-slots";
import {
  GUARD,
  TAIL_SIZE,
  alignmentBytes,
  alignmentIn,
  endsWell,
  guardSlot,
  isBare,
  isBroken,
  isClean,
  isPlain,
  isUsed,
  isWhole,
  isZero,
  seed,
  sizeIn,
  trailerOf,
  wipe,
} from "./guards";
import { findAligned, findFree, isFree } from "./free-pages";
import { lock, unlock } from "./lock";
import { copyMemory, fillMemory } from "./memory";
import {
  RUNS_PER_PAGE,
  RUNS_END,
  Run,
  addressOf,
  addBefore,
  cutFront,
  freeRun,
  isMapPage,
  metadata,
  lengthOf,
  mapEnd,
  mayGrow,
  noRun,
  pageOf,
  pagesFor,
  pagesOf,
  resizeRun,
  remove,
  runAt,
  runOf,
  setKind,
  setRun,
  setRuns,
} from "./pages";
import { FIRST_MEDIUM, alignedSize, binOfSize, slotSize } from "./size-classes";

/** In bytes: slots are checked and wiped sixteen bytes at a time. */
export const SMALLEST_SLOT: usize = 16;

/** The addresses of zero-size blocks start here: one per granule of 1 << ZERO_GRANULE_BITS bytes. */
const ZERO_BASE: usize = 0xffff0000;
const ZERO_GRANULE_BITS: usize = 4;


@inline
function log2(alignment: usize): u32 {
  return alignment ? <u32>ctz<usize>(alignment) : 0;
}

// Allocating.

/**
 * Returns a zeroed block of `size` bytes, or 0 when out of memory. `alignment` is a power of two, or 0 for `malloc`,
 * which asks for none.
 */
@inline
export function allocateChecked(size: usize, alignment: usize): usize {
  lock();
  const block = takeInline(size, alignment);
  unlock();
  return block;
}

function takeBlock(size: usize): usize {
  return takeInline(size, 0);
}


@inline
function takeInline(size: usize, alignment: usize): usize {
  if (!alignment && size < state().smallEnd) {
    const run = changetype<Bin>(smallBin(size + TAIL_SIZE)).first;
    const ready = readySlots(run);
    if (ready) return handOut(run, ready, size, 0);
  }
  return takeSlow(size, alignment);
}

function takeSlow(size: usize, alignment: usize): usize {
  const room = size + TAIL_SIZE + alignmentBytes(log2(alignment));
  if (size - 1 >= BIN_MAX - TAIL_SIZE || room > BIN_MAX || alignment >= PAGE)
    return takeOther(size, alignment);
  const kind = binOfSize(alignedSize(max(room, SMALLEST_SLOT), max<usize>(alignment, 1)));
  const bin = binAt(kind);
  if (!hasSlots(bin)) avoidRisk(runPages(slotSize(kind), WASTE_BITS), 1);
  // Even if there is no memory for a new run, the search for it may have returned quarantined slots to the bin.
  if (!hasSlots(bin) && !fillBin(kind) && !hasSlots(bin)) return 0;
  return handOut(bin.first, readySlots(bin.first), size, log2(alignment));
}

/** Returns whether a bin has free slots. Before the first allocation it has no ring. */
@inline
function hasSlots(bin: Bin): bool {
  return state().magic && bin.first != ringOf(bin);
}

function takeOther(size: usize, alignment: usize): usize {
  if (size || alignment >= PAGE) return takeLarge(size, alignment);
  const block = takeZero(alignment);
  return block ? block : takeSlow(1, alignment);
}

/** Hands out one of a run's free slots in the bitmap `ready`. `alignment` is its log2, or 0. */
@inline
function handOut(run: Run, ready: u64, size: usize, alignment: u32): usize {
  const bytes = run.size;
  const slot = takeAny(run, ready, bytes);
  if (!isClean(slot, bytes)) blameFree(run, slot);
  if (!readySlots(run) && !turnOver(run)) remove(run);
  guardSlot(slot, bytes, size, alignment);
  return slot;
}

/** Sets the heap up before it hands out its first run. Returns false when out of memory. */
function begin(): bool {
  const wall = ensureStarted() ? obtainRun(1, 1, 1) : changetype<Run>(0);
  if (!wall) return false;
  // The wall is the heap's own data, which does not count as used.
  --state().used;
  guards().wall = wall.start;
  // `takeInline` looks up size + TAIL_SIZE. If that is below SMALLEST_SLOT, it must not find a smaller bin. Only for a
  // size of 0 the entry remains that of a bin which never has slots, so that zero-size blocks take the slow path.
  state().smallEnd = SMALL_MAX + 1 - TAIL_SIZE;
  for (let room: usize = TAIL_SIZE + 4; room < SMALLEST_SLOT; room += 4)
    store<Bin>(STATE + room, binAt(binOfSize(SMALLEST_SLOT)), BIN_OF);
  seed();
  return true;
}

/** Makes a run of free slots for a bin that has none. Returns false when out of memory. */
function fillBin(kind: u32): bool {
  const bytes = slotSize(kind);
  const pages = runPages(bytes, WASTE_BITS);
  let run = findPages(pages, 1);
  if (!run) return false;
  run = avoidGone(run, 1);
  const slots = (pages << PAGE_BITS) / bytes;
  setKind(run, kind, slots);
  run.size = bytes;
  freeAll(run);
  setRuns(run, pages, run);
  addBefore(binAt(kind).first, run);
  return true;
}

/**
 * Returns a run whose pages have not been checked for writes yet, or null if memory is out even with the quarantine
 * emptied.
 */
function findPages(pages: u32, alignment: u32): Run {
  if (!guards().secret && !begin()) return changetype<Run>(0);
  const run = obtainPages(pages, alignment);
  if (run) return run;
  emptyQuarantine();
  return obtainRun(pages, pages, alignment);
}

/** Empties the quarantine if pages would be needed for which Emscripten's sbrk may end the program. */
function avoidRisk(pages: u32, alignment: u32): void {
  if (!EMSCRIPTEN || !guards().secret) return;
  if (!findAligned(pages, alignment) && !mayGrow(pages + alignment)) emptyQuarantine();
}

/** Like `findPages`, but leaves the quarantine alone. */
function obtainPages(pages: u32, alignment: u32): Run {
  freeEmptyRuns(pages, alignment);
  return obtainRun(pages, pages, alignment);
}

/** Traps if a new run's pages were written to while free. Those from `fresh` on, never handed out, need no check. */
function expectUnused(run: Run, fresh: u32): void {
  expectZero(run.start, min(endOf(run), addressOf(fresh)));
}

/** Traps if free memory from `start` to `end` was written to. */
function expectZero(start: usize, end: usize): void {
  if (!isZero(start, end)) blamePages(start, end);
}

/** Returns the address where a run's last page ends. */
@inline
function endOf(run: Run): usize {
  return run.start + addressOf(pagesOf(run));
}

function takeLarge(size: usize, alignment: usize): usize {
  if (<isize>size < 0) return 0;
  const pages = pagesFor(size + 1);
  const multiple = max<u32>(pagesFor(alignment), 1);
  const fresh = state().fresh;
  avoidRisk(pages, multiple);
  let run = findPages(pages, multiple);
  if (!run) return 0;
  if (multiple == 1 && isOwn(pageOf(run.start) - 1)) run = moveOn(run, 1);
  run = avoidGone(run, multiple);
  expectUnused(run, fresh);
  setRun(run.start, run);
  guardLarge(run, size, log2(alignment));
  return run.start;
}

/** Returns whether a page holds the heap's own data, where an underflow of the block after it would go unnoticed. */
function isOwn(page: u32): bool {
  return runAt(page) == metadata() || isMapPage(page);
}

/**
 * Exchanges a run for one of the same length that begins elsewhere, at a multiple of `alignment` pages, if there is one.
 * Returns the run to use.
 */
function moveOn(run: Run, alignment: u32): Run {
  const s = state();
  const peak = s.peak;
  const pages = pagesOf(run);
  if (!mayGrow(pages + alignment) && !findAligned(pages + 1, alignment)) return run;
  let other = run;
  if (alignment == 1 && lengthenRun(run, pages + 1)) cutFront(run, 1);
  // Keep the run until there is another: if it were free, a page of it might become Runs, which could leave no run that
  // is long enough.
  else other = obtainPages(pages, alignment);
  // Only one of the two ever serves a block.
  s.peak = peak;
  if (!other || other == run) return run;
  freeRun(run);
  return other;
}

/** Exchanges a run that begins where large blocks were freed recently, if there is room elsewhere. */
function avoidGone(run: Run, alignment: u32): Run {
  while (takeNote(run.start)) run = moveOn(run, alignment);
  return run;
}

/** Records where a freed large block began, in place of the oldest such record. */
function noteGone(block: usize): void {
  const g = guards();
  store<usize>(STATE + GONE + ((<usize>g.goneNext) << 2), block);
  g.goneNext = (g.goneNext + 1) & (GONE_BLOCKS - 1);
}

/** Returns the address of the record of a large block that was freed at `block`, or 0. */
function noteOf(block: usize): usize {
  return placeOf(block, STATE + GONE, GONE_BLOCKS);
}

/** Returns where an address is stored in the array of `count` addresses at `first`, or 0 if it is not there. */
function placeOf(address: usize, first: usize, count: u32): usize {
  for (let place = first; place < first + count * sizeof<usize>(); place += sizeof<usize>())
    if (load<usize>(place) == address) return place;
  return 0;
}

/**
 * Returns whether a large block that began here was freed recently, and erases the record: only the next run avoids
 * this address, later ones may begin here again.
 */
function takeNote(block: usize): bool {
  const note = noteOf(block);
  if (note) store<usize>(note, 0);
  return !!note;
}


@inline
function guardLarge(run: Run, size: usize, alignment: u32): void {
  run.free = size;
  run.left = alignment;
  store<u8>(run.start + size, GUARD);
}

// Finding out what a pointer is.

/**
 * Returns the run of a block. Traps unless `block` is the start of a large block or a multiple of 16 in a run of slots;
 * whether a slot starts there is for its trailer to tell.
 */
function runOfBlock(block: usize): Run {
  const end = addressOf(state().end);
  if (block < end) {
    const run = runOf(block);
    // If this is not a Run after all, no valid trailer will be found; but don't look for one beyond the heap.
    if (isSlots(run, end) && !(block & 15) && block + run.size <= end) return run;
    if (soundRun(pageOf(block)).kind == LARGE && block == run.start) return run;
  }
  blamePointer(block);
  return noRun();
}

/** Returns whether `run`, an entry of the page map, may be a run of slots in a heap that ends at `end`. */
@inline
function isSlots(run: Run, end: usize): bool {
  return changetype<usize>(run) < end && <u32>run.kind - FIRST_BIN < BINS;
}

/** Returns the Run in a page's map entry. Traps if the entry or the Run itself must have been overwritten. */
function soundRun(page: u32): Run {
  const run = runAt(page);
  if (!isSound(run, page)) rsbmalloc_overflow(addressOf(page), 0);
  return run;
}

/** Returns whether there may be a Run at an address. */
@inline
function isRun(at: usize): bool {
  return !(at & (RUN_STEP - 1)) && pageOf(at) < state().end && runAt(pageOf(at)) == metadata();
}

function isSound(run: Run, page: u32): bool {
  if (run == noRun() || run == metadata()) return true;
  const s = state();
  if (!isRun(changetype<usize>(run)) || run.kind >= END_BIN) return false;
  const first = pageOf(run.start);
  const pages = pagesOf(run);
  return first >= s.start && page - first < pages && pages <= s.end - first;
}

/** Returns the contents of the trailer of a block in a slot. Traps if it is not in use or was written past its end. */
@inline
function contentsOf(run: Run, block: usize): u32 {
  const bytes = run.size;
  const contents = trailerOf(block, bytes);
  if (!isWhole(block, contents, bytes)) blameBlock(run, block);
  return contents;
}

/**
 * Returns the size in bytes that a large block was allocated with. Traps if there was a write past its end, or before
 * its start to a free page.
 */
function sizeOfLarge(run: Run): usize {
  const size = run.free;
  if (isFree(pageOf(run.start) - 1) && !isZero(run.start - UNDERFLOW, run.start))
    rsbmalloc_overflow(run.start, size);
  const end = run.start + size;
  if (size >= run.size) rsbmalloc_overflow(run.start, 0);
  // After the guard, the rest of the run must be zero.
  if (load<u8>(end) != GUARD || !isZero(end + 1, endOf(run))) rsbmalloc_overflow(run.start, size);
  return size;
}

/** Returns the size in bytes of a block, large or in a slot. Traps like `sizeOfLarge` and `contentsOf`. */
function sizeOf(run: Run, block: usize): usize {
  return run.kind == LARGE ? sizeOfLarge(run) : sizeIn(contentsOf(run, block));
}

/** Returns the size in bytes that a block was allocated with, a zero-size one included. Traps if it is not in use. */
export function sizeChecked(block: usize): usize {
  lock();
  const size = knownSize(block);
  unlock();
  return size;
}

function knownSize(block: usize): usize {
  if (!isZeroBlock(block)) return sizeOf(runOfBlock(block), block);
  zeroIndex(block);
  return 0;
}

/** Traps unless a block was allocated with `size` bytes and, if `alignment` is not 0, with that alignment. */
export function expectBlock(block: usize, size: usize, alignment: usize): void {
  lock();
  const known = knownSize(block);
  if (known != size && !(known == 1 && !size && mayReplaceZero())) rsbmalloc_size_mismatch(block, known);
  if (alignment && !wasAligned(block, alignment)) rsbmalloc_alignment_mismatch(block, known);
  unlock();
}

/** Returns whether a block was requested with that alignment; for a zero-size block, whether it may have been. */
function wasAligned(block: usize, alignment: usize): bool {
  if (isZeroBlock(block)) return !(block & (alignment - 1));
  const run = runAt(pageOf(block));
  const log = run.kind == LARGE ? <u32>run.left : alignmentOf(run, block);
  return log == log2(alignment);
}

/** Returns log2 of the alignment that a block in a slot was requested with, 0 for a block from `malloc`. */
function alignmentOf(run: Run, block: usize): u32 {
  return alignmentIn(trailerOf(block, run.size), block, run.size);
}

// Freeing.

/** Frees a block. Ignores address 0; traps for any other that is not a block in use. */
@inline
export function releaseChecked(block: usize): void {
  lock();
  freeInline(block);
  unlock();
}

function freeBlock(block: usize): void {
  freeInline(block);
}


@inline
function freeInline(block: usize): void {
  const end = addressOf(state().end);
  // One comparison for both: the rotation moves the low bits of what is not a multiple of 16 to the top.
  if (rotr<usize>(block, 4) < end >>> 4) {
    const run = runOf(block);
    if (changetype<usize>(run) < end) {
      const bytes = run.size;
      // The size of a large run is above SMALL_MAX, and that of `noRun` and `metadata` is 0.
      if (u32(bytes - 1 < SMALL_MAX) & u32(block + bytes <= end)) {
        const size = trailerOf(block, bytes);
        if (isPlain(size, bytes) && endsWell(block, size, bytes)) {
          wipe(block, bytes);
          const oldest = quarantineSmall(block);
          if (oldest) freeSlot(oldest);
          return;
        }
      }
    }
  }
  freeOther(block);
}

/** Frees a block that is not from `malloc` or not in a small slot. Traps if it is not a block in use. */
function freeOther(block: usize): void {
  if (!block) return;
  if (isZeroBlock(block)) {
    freeZero(block);
    return;
  }
  const run = runOfBlock(block);
  if (run.kind == LARGE) {
    freeLarge(run);
    return;
  }
  contentsOf(run, block);
  wipe(block, run.size);
  const oldest = run.size <= SMALL_MAX ? quarantineSmall(block) : quarantineMedium(block);
  if (oldest) freeSlot(oldest);
}

/** Puts a small slot into quarantine. Returns the oldest one there, whose place it takes, or 0. */
@inline
function quarantineSmall(slot: usize): usize {
  const g = guards();
  const next = g.smallNext;
  g.smallNext = (next + 4) & (SMALL_QUARANTINE * 4 - 1);
  return quarantine(next, slot);
}

/** Like `quarantineSmall`, for a slot that is not small. */
function quarantineMedium(slot: usize): usize {
  const g = guards();
  const next = g.mediumNext;
  g.mediumNext = (next + 4) & (MEDIUM_QUARANTINE * 4 - 1);
  return quarantine(SMALL_QUARANTINE * 4 + next, slot);
}

/** Stores a slot, or 0, at an offset in bytes in the quarantine. Returns what was there. */
@inline
function quarantine(offset: u32, slot: usize): usize {
  const place = STATE + QUARANTINE + <usize>offset;
  const oldest = load<usize>(place);
  store<usize>(place, slot);
  return oldest;
}

/** Frees a slot that has left the quarantine. */
function freeSlot(slot: usize): void {
  const run = runOf(slot);
  const index = slotNumber(run, slot);
  if (changetype<usize>(run) >= addressOf(state().end) || index >= run.slots) {
    soundRun(pageOf(slot));
    rsbmalloc_corruption(slot, 0);
  }
  if (give(run, index)) regroup(run);
}

/** Moves a run with free slots to its place in its bin's ring: the last if the run is empty, else the first. */
function regroup(run: Run): void {
  if (<u32>run.kind - FIRST_BIN >= BINS) rsbmalloc_corruption(run.start, 0);
  const bin = binAt(run.kind);
  if (run.next) remove(run);
  if (!readySlots(run)) turnOver(run);
  addBefore(isUnused(run) ? ringOf(bin) : bin.first, run);
}

/**
 * Gives back the empty runs, which are the last in their bins' rings, unless `pages` pages are free at a multiple of
 * `alignment` already. The only run of a bin of small slots stays, so that a double free of one of its blocks is
 * reported as such.
 */
function freeEmptyRuns(pages: u32, alignment: u32): void {
  if (findAligned(pages, alignment)) return;
  for (let kind = FIRST_BIN; kind < END_BIN; ++kind) while (freeLastRun(kind, kind < FIRST_MEDIUM));
}

/** Gives back the last run of a bin if it is empty, except for an only run with `keepOnly`. Returns whether it did. */
function freeLastRun(kind: u32, keepOnly: bool): bool {
  const bin = binAt(kind);
  const run = bin.last;
  // Before the first allocation the bin has no ring.
  if (!run || run == ringOf(bin)) return false;
  if (!isUnused(run) || (keepOnly && run == bin.first)) return false;
  checkSlots(run);
  remove(run);
  freeRun(run);
  return true;
}

function freeLarge(run: Run): void {
  fillMemory(run.start, 0, sizeOfLarge(run) + 1);
  noteGone(run.start);
  freeRun(run);
}

/** Frees all slots in quarantine, then all empty runs. Needs the lock. */
export function emptyQuarantine(): void {
  for (let place: u32 = 0; place < QUARANTINE_SLOTS * 4; place += 4) {
    const slot = quarantine(place, 0);
    if (slot) freeSlot(slot);
  }
  for (let kind = FIRST_BIN; kind < END_BIN; ++kind) while (freeLastRun(kind, false));
}

// Resizing.

/** Resizes a block, in place or by moving it; returns 0 and leaves it alone when out of memory. New bytes are zero. */
export function resizeChecked(block: usize, size: usize): usize {
  lock();
  const resized = resizeBlock(block, size);
  unlock();
  return resized;
}

function resizeBlock(block: usize, size: usize): usize {
  let old: usize = 0;
  let run = noRun();
  if (!isZeroBlock(block)) {
    run = runOfBlock(block);
    old = sizeOf(run, block);
    const mayMove = size - 1 >= old || mayGrow(ROOM_TO_GROW);
    if ((fitsWell(run, size) || !mayMove) && resizeInPlace(run, block, old, size)) return block;
  } else zeroIndex(block);
  const moved = takeBlock(size);
  if (!moved) return size - 1 < old && resizeInPlace(run, block, old, size) ? block : 0;
  // A zero-size block lies outside memory, where even a copy of no bytes traps.
  const kept = min(old, size);
  if (kept) copyMemory(moved, block, kept);
  freeBlock(block);
  return moved;
}

/** Resizes a block in place. Returns whether it could. */
export function resizeInPlaceChecked(block: usize, size: usize): bool {
  lock();
  const old = knownSize(block);
  const resized = !!size && !isZeroBlock(block) && resizeInPlace(runOf(block), block, old, size);
  unlock();
  return resized;
}

/** Returns whether `size` bytes would make good enough use of a block's slot or run for the block to stay there. */
function fitsWell(run: Run, size: usize): bool {
  return size > (run.kind == LARGE ? BIN_MAX : <usize>run.size) >>> 1;
}

/** Resizes a block of `old` bytes to `size` in place. In a slot, `size` must not be 0. Returns whether it could. */
function resizeInPlace(run: Run, block: usize, old: usize, size: usize): bool {
  const bytes = run.size;
  if (run.kind == LARGE ? !fitLarge(run, size) : size > bytes - TAIL_SIZE) return false;
  // Erase the old guard and whatever lies past the new end. The block's alignment is not kept.
  store<u8>(block + old, 0);
  if (size < old) fillMemory(block + size, 0, old - size);
  if (run.kind != LARGE) {
    guardSlot(block, bytes, size, 0);
  } else {
    resizeRun(run, pagesFor(size + 1));
    guardLarge(run, size, 0);
  }
  return true;
}

/** Makes the run of a large block long enough for `size` bytes. Returns whether it is. */
function fitLarge(run: Run, size: usize): bool {
  if (<isize>size < 0) return false;
  const pages = pagesFor(size + 1);
  if (pages <= pagesOf(run)) return true;
  const end = endOf(run);
  freeEmptyRuns(pages, 1);
  avoidRisk(pages, 1);
  if (!lengthenRun(run, pages)) return false;
  // The block itself is not to blame: its end was checked before.
  if (!isZero(end, endOf(run))) blameFreed(end, endOf(run));
  return true;
}

/** Resizes a page run, in place or by moving it; returns 0 and leaves it alone when out of memory. */
export function resizePagesChecked(block: usize, size: usize): usize {
  lock();
  let resized = block;
  const old = knownSize(block);
  const run = isZeroBlock(block) ? noRun() : runOf(block);
  if (run.kind != LARGE) rsbmalloc_invalid_free(block, 0);
  if (!resizeInPlace(run, block, old, size)) {
    resized = takeLarge(size, 0);
    if (resized) {
      copyMemory(resized, block, min(old, size));
      freeBlock(block);
    }
  }
  unlock();
  return resized;
}

/** Returns a page run for `size` bytes at a multiple of `alignment`, or 0 when out of memory. */
export function allocatePagesChecked(size: usize, alignment: usize): usize {
  lock();
  const run = takeLarge(size, alignment);
  unlock();
  return run;
}

// Zero-size blocks: a bitmap tells which are in use. They are handed out in turn.

@inline
function isZeroBlock(block: usize): bool {
  return block >= ZERO_BASE;
}


@inline
function zeroBit(index: usize): usize {
  return STATE + ZERO_BLOCKS + (index >>> 3);
}

/** Returns a zero-size block at a multiple of `alignment`, or 0 if all of those are in use. */
function takeZero(alignment: usize): usize {
  const g = guards();
  const step = max<u32>(<u32>(alignment >>> ZERO_GRANULE_BITS), 1);
  let index = g.zeroNext;
  for (let i: u32 = 0; i < ZERO_BLOCK_COUNT; i += step) {
    index = (index + step - 1) & -step & (ZERO_BLOCK_COUNT - 1);
    const byte = load<u8>(zeroBit(index));
    const bit = 1 << (index & 7);
    if (!(byte & bit)) {
      store<u8>(zeroBit(index), byte | bit);
      g.zeroNext = index + 1;
      g.zeroEver = max<u32>(g.zeroEver, index + 1);
      return ZERO_BASE + ((<usize>index) << ZERO_GRANULE_BITS);
    }
    ++index;
  }
  return 0;
}

/** Returns whether so many zero-size blocks were ever in use that a block of one byte may stand in for one. */
@inline
function mayReplaceZero(): bool {
  return guards().zeroEver > ZERO_BLOCK_COUNT - (PAGE >>> ZERO_GRANULE_BITS);
}

/** Returns the index of the zero-size block at an address. Traps if none is in use there. */
function zeroIndex(block: usize): u32 {
  const offset = block - ZERO_BASE;
  const index = <u32>(offset >>> ZERO_GRANULE_BITS);
  if (offset & ((1 << ZERO_GRANULE_BITS) - 1) || index >= guards().zeroEver) rsbmalloc_invalid_free(block, 0);
  if (!(load<u8>(zeroBit(index)) & (1 << (index & 7)))) rsbmalloc_double_free(block, 0);
  return index;
}

function freeZero(block: usize): void {
  const index = zeroIndex(block);
  const bit: u32 = 1 << (index & 7);
  store<u8>(zeroBit(index), load<u8>(zeroBit(index)) ^ bit);
}

// Diagnosis: which bug was it? The `blame` functions are slow and always trap, except that `blameBefore` and
// `blameBeforePage` return if they find nothing.

/** Traps for a pointer that, by the page map, is not the start of a block. */
function blamePointer(block: usize): void {
  // A pointer to free memory is most likely one that was freed before.
  if (noteOf(block) || (!(block & 15) && isFreeAgain(pageOf(block)))) rsbmalloc_double_free(block, 0);
  rsbmalloc_invalid_free(block, 0);
}

/** Returns whether a page is free and was handed out before. */
function isFreeAgain(page: u32): bool {
  return page < state().fresh && isFree(page);
}

/** Traps for what should be a block in a slot, but is not the start of one in use or lacks an intact tail. */
function blameBlock(run: Run, block: usize): void {
  soundRun(pageOf(block));
  const bytes = run.size;
  const index = <u32>(block - run.start) / bytes;
  const slot = run.start + index * bytes;
  const isNew = index >= run.slots || !wasUsed(run, index);
  // Also in the middle of a free slot: a block of another size may have begun there earlier.
  if (!isNew && isFreeSlot(run, slot, index)) rsbmalloc_double_free(block, 0);
  if (isNew || slot != block) rsbmalloc_invalid_free(block, 0);
  const contents = trailerOf(slot, bytes);
  rsbmalloc_overflow(block, isBroken(contents) ? 0 : sizeIn(contents));
}

/** Traps for a free slot that was written to: through a stale pointer, or from a neighboring block. */
function blameFree(run: Run, slot: usize): void {
  const bytes = run.size;
  blameBefore(run, slot);
  const own = bytes - min<u32>(<u32>UNDERFLOW, bytes >>> 1);
  if (!isBare(slot, bytes) && isZero(slot, slot + own)) rsbmalloc_overflow(slot + bytes, 0);
  rsbmalloc_use_after_free(slot, 0);
}

/** Traps if the nearest block before a slot was written past its end, across any free slots in between. */
function blameBefore(run: Run, slot: usize): void {
  const bytes = run.size;
  for (let index = <u32>(slot - run.start) / bytes; index--;) {
    slot -= bytes;
    if (!isFreeSlot(run, slot, index)) {
      if (!isWhole(slot, trailerOf(slot, bytes), bytes)) rsbmalloc_overflow(slot, 0);
      return;
    }
    if (isClean(slot, bytes)) return;
  }
  blameBeforePage(run.start);
}

/** Returns whether one of a run's slots is free or in quarantine. */
function isFreeSlot(run: Run, slot: usize, index: u32): bool {
  return isListed(run, index) || isWaiting(slot);
}

function isWaiting(slot: usize): bool {
  return !!placeOf(slot, STATE + QUARANTINE, QUARANTINE_SLOTS);
}

/** How far before a block's start an underflow is assumed to reach, in bytes. */
const UNDERFLOW: usize = 64;

/** Traps for free pages that were written to: through a stale pointer, or from the block before or after them. */
function blamePages(start: usize, end: usize): void {
  blameBeforePage(start);
  blameFreed(start, end);
}

/** Like `blamePages`, when the block before the pages is known not to be the cause. */
function blameFreed(start: usize, end: usize): void {
  const after = soundRun(pageOf(end));
  const isBlock = after.kind == LARGE || (after.kind >= FIRST_BIN && !isBare(end, after.size));
  if (isBlock && isZero(start, end - UNDERFLOW)) rsbmalloc_overflow(end, 0);
  rsbmalloc_use_after_free(start, 0);
}

/** Traps if the block that lies before a page was written past its end. */
function blameBeforePage(start: usize): void {
  let before = noRun();
  for (let page = state().start; page < pageOf(start); page += lengthOf(before)) before = soundRun(page);
  if (before.kind == LARGE) sizeOfLarge(before);
  if (before.kind >= FIRST_BIN) blameBefore(before, before.start + before.slots * before.size);
}

// Checking the heap.

/** Walks the whole heap and traps at the first damage that it finds. */
export function checkHeap(): void {
  lock();
  const s = state();
  checkNowhere(0, s.start);
  checkNowhere(s.end, s.capacity);
  const wall = guards().wall;
  if (wall) {
    expectUntouched(wall, wall + PAGE);
    expectUntouched(mapEnd(), addressOf(pagesFor(mapEnd())));
  }
  for (let page = s.start; page < s.end;) {
    const run = soundRun(page);
    if (run.kind >= FIRST_BIN) checkSlots(run);
    else if (run.kind == LARGE) sizeOfLarge(run);
    else if (run == metadata()) checkMetadata(addressOf(page));
    const end = page + lengthOf(run);
    for (; page < end; ++page) if (isFree(page)) checkFree(page, run);
  }
  unlock();
}

/** Traps if the heap's own zeros from `start` to `end` were overwritten: from the block after them, most likely. */
function expectUntouched(start: usize, end: usize): void {
  if (!isZero(start, end)) rsbmalloc_overflow(end, 0);
}

/** Checks a page that is marked free, with `run` as its map entry: it must be in no run and must still be zero. */
function checkFree(page: u32, run: Run): void {
  if (run != noRun()) rsbmalloc_corruption(addressOf(page), 0);
  if (page < state().fresh) expectZero(addressOf(page), addressOf(page + 1));
}

/** Checks that pages outside the heap are in no run. */
function checkNowhere(page: u32, end: u32): void {
  for (; page < end; ++page) if (runAt(page) != noRun()) rsbmalloc_corruption(addressOf(page), 0);
}

/** Checks a page of Runs: the list of the spare ones, and that the space after the last is zero. */
function checkMetadata(page: usize): void {
  const header = changetype<Run>(page);
  let left = RUNS_PER_PAGE - header.left;
  let at = header.free;
  const end = page + RUNS_END;
  if (!isZero(end, page + PAGE)) rsbmalloc_overflow(page + PAGE, 0);
  for (; at != end; at += changetype<Run>(at).event + RUN_STEP) {
    if (!left-- || at - page >= RUNS_END || at & (RUN_STEP - 1)) rsbmalloc_corruption(page, 0);
  }
  if (left) rsbmalloc_corruption(page, 0);
}

/** Checks the slots of a run, and that the space after the last one is zero. */
function checkSlots(run: Run): void {
  if (!isSoundAccount(run)) rsbmalloc_corruption(run.start, 0);
  const bytes = run.size;
  let slot = run.start;
  for (let index: u32 = 0; index < run.slots; ++index) {
    const contents = trailerOf(slot, bytes);
    const isSlotFree = isListed(run, index) || (!isUsed(contents, bytes) && isWaiting(slot));
    if (!isSlotFree) contentsOf(run, slot);
    else if (!isClean(slot, bytes)) blameFree(run, slot);
    slot += bytes;
  }
  expectZero(slot, endOf(run));
}
