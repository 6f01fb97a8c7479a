// The heap of the hardened build: every block is guarded, and a bug in the program traps as soon as it can be seen.
// It takes the place of the bins' lists; src/guards.ts draws what a slot holds.
//
// - Each run of slots has a list of its own, in random order, and a bin the runs that have free slots. A run without
//   blocks goes back to the page allocator, unless it is the only one of a bin of small slots.
// - A freed block is wiped and waits in a quarantine, first in, first out, before it is free. What was written to it
//   meanwhile, or later, shows when it leaves, when it is handed out, or in a check of the heap.
// - A large block is a page run with a guard behind it. Free pages are zero, as is all memory that no block uses. A new
//   block does not begin where the last one did, unless there is no room for it elsewhere: a page further is enough.
// - A block of no bytes has an address in the last wasm page below 4 GiB, which the heap never reaches.

import {
  BINS,
  BIN_MAX,
  END_BIN,
  FIRST_BIN,
  FREE,
  LARGE,
  NONE,
  PAGE,
  PAGE_BITS,
  MEDIUM_QUARANTINE,
  PARTIAL,
  QUARANTINE,
  QUARANTINE_SLOTS,
  RUN_SLOTS,
  SMALL_BINS,
  SMALL_MAX,
  SMALL_QUARANTINE,
  STATE,
  ZERO_BLOCKS,
  ZERO_BLOCK_COUNT,
  guards,
  state,
} from "./config";
import { obtainRun, runPages } from "./bins";
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
  BROKEN,
  BROKEN_LINK,
  FREED,
  GUARD,
  NEVER_USED,
  TRAILER_SIZE,
  alignmentBytes,
  alignmentIn,
  guardSlot,
  isGuarded,
  isZero,
  isZeroSlot,
  linkOf,
  random,
  seed,
  setLink,
  setTrailer,
  sizeIn,
  trailerOf,
  wipe,
} from "./guards";
import { lock, unlock } from "./lock";
import { copyMemory, fillMemory } from "./memory";
import {
  Info,
  REGION_BITS,
  addressOf,
  extendRun,
  freeRun,
  hasInfos,
  infoOf,
  kindOf,
  pageOf,
  pagesFor,
  push,
  remove,
  setKind,
  shrinkRun,
} from "./pages";
import { binOfSize, slotSize } from "./size-classes";

/** Slots hold a link and a trailer, in bytes. */
const SMALLEST_SLOT: usize = 16;

/** The first bin of slots of more than SMALL_MAX bytes. */
const MEDIUM_BIN: u32 = FIRST_BIN + SMALL_BINS;

/** Blocks of no bytes lie from here on, a granule each. */
const ZERO_BASE: usize = 0xffff0000;
const ZERO_GRANULE_BITS: usize = 4;


@inline
function log2(alignment: usize): u32 {
  return alignment ? <u32>ctz<usize>(alignment) : 0;
}

// Allocating.

/** A block of `size` zero bytes at a multiple of `alignment`, a power of two, or 0 for `malloc`; 0 when memory is out. */
export function allocateChecked(size: usize, alignment: usize): usize {
  lock();
  const block = takeBlock(size, alignment);
  unlock();
  return block;
}

function takeBlock(size: usize, alignment: usize): usize {
  const room = size + TRAILER_SIZE + alignmentBytes(log2(alignment));
  if (size - 1 >= BIN_MAX - TRAILER_SIZE || room > BIN_MAX || alignment >= PAGE)
    return takeOther(size, alignment);
  let bin = binOfSize(max(max(room, SMALLEST_SLOT), alignment));
  // Runs start at a page, so a slot is aligned when its size is a multiple of the alignment. BIN_MAX is.
  while (slotSize(bin) & (max<u32>(<u32>alignment, 1) - 1)) ++bin;
  return takeSlot(bin, size, alignment);
}

function takeOther(size: usize, alignment: usize): usize {
  if (size || alignment >= PAGE) return takeLarge(size, alignment);
  const block = takeZero(alignment);
  return block ? block : takeBlock(1, alignment);
}

function takeSlot(bin: u32, size: usize, alignment: usize): usize {
  const bytes = slotSize(bin);
  let page = load<u32>(partialList(bin));
  if (!page) {
    page = fillRun(bin, bytes);
    if (!page) return 0;
  }
  const info = infoOf(page);
  const slot = info.pages;
  const next = linkOf(slot);
  if (next == BROKEN_LINK || trailerOf(slot, bytes) & ~FREED || !isZeroSlot(slot, bytes)) {
    blameFree(slot, bytes);
  }
  info.pages = next;
  if (!--info.free) remove(partialList(bin), page);
  store<u64>(slot, 0);
  guardSlot(slot, bytes, size, log2(alignment));
  return slot;
}


@inline
function partialList(bin: u32): usize {
  return STATE + PARTIAL + ((<usize>bin) << 2);
}

/** Slots in a bin's run. */
@inline
function runSlots(bin: u32): u32 {
  return load<u16>(STATE + RUN_SLOTS + ((<usize>bin) << 1));
}

/** Before the first run is handed out. */
function begin(): void {
  seed();
  const wall = obtainRun(1);
  // As the heap's own data, it does not count as used.
  if (wall) --state().used;
  guards().wall = wall;
  for (let bin = FIRST_BIN; bin < END_BIN; ++bin) {
    const bytes = slotSize(bin);
    store<u16>(STATE + RUN_SLOTS + ((<usize>bin) << 1), <u16>((runPages(bytes) << PAGE_BITS) / bytes));
  }
}

/** Makes a run of free slots for a bin. Returns its first page, or 0 when memory is out. */
function fillRun(bin: u32, bytes: u32): u32 {
  const pages = runPages(bytes);
  const page = takeRun(pages);
  if (!page) return 0;
  for (let i: u32 = 0; i < pages; ++i) {
    setKind(page + i, bin);
    infoOf(page + i).free = -i;
  }
  // Each slot goes to the list's front or behind one that is there already, all places alike.
  const slots = runSlots(bin);
  const first = addressOf(page);
  let head: usize = 0;
  for (let i: u32 = 0; i < slots; ++i) {
    const slot = first + i * bytes;
    const place = random(i + 1);
    if (place) {
      const before = first + (place - 1) * bytes;
      setLink(slot, linkOf(before));
      setLink(before, slot);
    } else {
      setLink(slot, head);
      head = slot;
    }
    setTrailer(slot, bytes, NEVER_USED);
  }
  const info = infoOf(page);
  info.pages = head;
  info.free = slots;
  push(partialList(bin), page);
  return page;
}

/** A run of zeros; 0 when memory is out even if all that waits to be free is. */
function takeRun(pages: u32): u32 {
  const fresh = state().fresh;
  const page = findPages(pages);
  if (page) expectUnused(page, pages, fresh);
  return page;
}

/** The same before anyone has looked whether it is all zero. */
function findPages(pages: u32): u32 {
  if (!guards().secret) begin();
  const page = obtainRun(pages);
  if (page) return page;
  emptyQuarantine();
  return obtainRun(pages);
}

/** Traps if someone wrote to a run. No page from `fresh` on had been handed out, so nobody has written there. */
function expectUnused(page: u32, pages: u32, fresh: u32): void {
  const used = min(pages, max<u32>(page, fresh) - page);
  expectZero(addressOf(page), addressOf(page + used));
}

/** Traps if someone wrote to memory from `start` to `end`, which is free. */
function expectZero(start: usize, end: usize): void {
  if (!isZero(start, end)) blamePages(start, end);
}

/** Traps if someone wrote behind a run's last slot. */
function expectTail(page: u32, used: u32, pages: u32): void {
  const tail = addressOf(page) + used;
  if (!isZero(tail, addressOf(page + pages))) rsbmalloc_overflow(tail, 0);
}

function takeLarge(size: usize, alignment: usize): usize {
  if (<isize>size < 0) return 0;
  const pages = pagesFor(size + 1);
  const spare = max<u32>(pagesFor(alignment), 1) - 1;
  const fresh = state().fresh;
  const run = findPages(pages + spare);
  if (!run) return 0;
  let page = (run + spare) & ~spare;
  if (page > run) freeRun(run, page - run);
  shrinkRun(page, pages + spare - (page - run), pages);
  if (!spare && beganBlock(page)) page = moveOn(page, pages);
  expectUnused(page, pages, fresh);
  setKind(page, LARGE);
  const info = infoOf(page);
  info.pages = pages;
  guardLarge(page, size);
  setLargeAlignment(info, log2(alignment));
  setBeganBlock(page, false);
  return addressOf(page);
}

/** Exchanges a run for one that begins elsewhere, if there is one. */
function moveOn(page: u32, pages: u32): u32 {
  const s = state();
  const peak = s.peak;
  // Here the block after the next may begin again.
  setBeganBlock(page, false);
  if (extendRun(page, pages, pages + 1)) {
    freeRun(page++, 1);
  } else {
    // The run is held until there is another: were it free, infos might move into it, and leave none that is long enough.
    const other = obtainRun(pages);
    if (other) {
      freeRun(page, pages);
      page = other;
    }
  }
  // Only one of the two ever serves a block.
  s.peak = peak;
  return page;
}

// What a large block's Info holds besides its pages: the size and the alignment. When the block is gone, the Info tells
// that there was one.

@inline
function largeSize(info: Info): usize {
  return info.next;
}


@inline
function guardLarge(page: u32, size: usize): void {
  infoOf(page).next = <u32>size;
  store<u8>(addressOf(page) + size, GUARD);
}


@inline
function largeAlignment(info: Info): u32 {
  return info.prev;
}


@inline
function setLargeAlignment(info: Info, alignment: u32): void {
  info.prev = alignment;
}


@inline
function beganBlock(page: u32): bool {
  return infoOf(page).free != 0;
}


@inline
function setBeganBlock(page: u32, began: bool): void {
  infoOf(page).free = i32(began);
}

// Finding out what a pointer is.

/** What bin has a block, LARGE if none. Traps if it is not the start of a slot or of a large block. */
function kindOfBlock(block: usize): u32 {
  const page = pageOf(block);
  if (page >= state().end) return blamePointer(block);
  const kind = kindOf(page);
  if (kind >= END_BIN) rsbmalloc_overflow(block, 0);
  if (kind >= FIRST_BIN && !(block & 15) && pageOf(block + slotSize(kind) - 1) < state().end) return kind;
  if (kind == LARGE && !(block & (PAGE - 1))) return kind;
  return blamePointer(block);
}

/** Whether a page's Info and, where it begins a run, the run's length can be what they were. */
function isSane(page: u32): bool {
  const s = state();
  const info = infoOf(page);
  const at = changetype<usize>(info);
  if (at & 3 || at < addressOf(s.start) || at >= addressOf(s.end)) return false;
  const kind = kindOf(page);
  if (kind >= END_BIN) return false;
  if (kind >= FIRST_BIN) return info.free > 0 || kindOf(page + info.free) == kind;
  return kind == NONE || (info.pages && <u32>info.pages <= s.end - page);
}

/** The first page of the run of slots that a page is in. */
function runOf(page: u32): u32 {
  return page + min<i32>(infoOf(page).free, 0);
}

/** The length in pages of the run that begins at a page; 1 for a page that is in none. */
function lengthOf(page: u32): u32 {
  const kind = kindOf(page);
  // A region of which others have all has no infos.
  if (kind == NONE && !hasInfos(page >>> REGION_BITS)) return 1;
  if (!isSane(page)) rsbmalloc_overflow(addressOf(page), 0);
  if (kind >= FIRST_BIN) return runPages(slotSize(kind));
  return kind == NONE ? 1 : <u32>infoOf(page).pages;
}

/** What the trailer of a block in a slot says. Traps if it is no block in use, or one that was written behind. */
function contentsOf(block: usize, bytes: u32): u32 {
  const contents = trailerOf(block, bytes);
  const size = sizeIn(contents);
  if (contents == BROKEN || !size || size > bytes - TRAILER_SIZE || !isGuarded(block, contents, bytes)) {
    blameBlock(block, bytes);
  }
  return contents;
}

/** The same of a large block. */
function checkLarge(page: u32): Info {
  const info = infoOf(page);
  const block = addressOf(page);
  if (!isSane(page) || pagesFor(largeSize(info) + 1) != <u32>info.pages) rsbmalloc_overflow(block, 0);
  const size = largeSize(info);
  const end = addressOf(page + <u32>info.pages);
  if (load<u8>(block + size) != GUARD || !isZero(block + size + 1, end)) rsbmalloc_overflow(block, size);
  return info;
}

/** The bytes that a block was allocated with. Traps as those two. */
function sizeOf(block: usize, kind: u32): usize {
  return kind == LARGE ? largeSize(checkLarge(pageOf(block))) : sizeIn(contentsOf(block, slotSize(kind)));
}

/** The same for any block in use. */
export function sizeChecked(block: usize): usize {
  if (isZeroBlock(block)) return 0;
  lock();
  const size = sizeOf(block, kindOfBlock(block));
  unlock();
  return size;
}

/** Traps unless a block was allocated with `size` bytes, at a multiple of `alignment` if that is not 0. */
export function expectBlock(block: usize, size: usize, alignment: usize): void {
  const known = sizeChecked(block);
  if (known != size) rsbmalloc_size_mismatch(block, known);
  if (!alignment || isZeroBlock(block)) return;
  const kind = kindOf(pageOf(block));
  const log =
    kind == LARGE
      ? largeAlignment(infoOf(pageOf(block)))
      : alignmentIn(trailerOf(block, slotSize(kind)), block, slotSize(kind));
  if (log != log2(alignment)) rsbmalloc_alignment_mismatch(block, known);
}

// Freeing.

export function releaseChecked(block: usize): void {
  lock();
  freeBlock(block);
  unlock();
}

function freeBlock(block: usize): void {
  if (isZeroBlock(block)) {
    freeZero(block);
    return;
  }
  const kind = kindOfBlock(block);
  if (kind == LARGE) {
    freeLarge(pageOf(block));
    return;
  }
  const bytes = slotSize(kind);
  const contents = contentsOf(block, bytes);
  wipe(block, alignmentIn(contents, block, bytes) ? bytes - TRAILER_SIZE : sizeIn(contents) + 1);
  setTrailer(block, bytes, FREED);
  const oldest = quarantine(nextPlace(bytes), block);
  if (oldest) freeSlot(oldest);
}

/** Where in the quarantine a slot of `bytes` goes. */
@inline
function nextPlace(bytes: u32): u32 {
  const g = guards();
  let next: u32;
  if (bytes <= SMALL_MAX) {
    next = g.smallNext;
    g.smallNext = (next + 1) & (SMALL_QUARANTINE - 1);
  } else {
    next = g.mediumNext;
    g.mediumNext = (next + 1) & (MEDIUM_QUARANTINE - 1);
    next += SMALL_QUARANTINE;
  }
  return next;
}

/** Puts a slot, or 0, into a place of the quarantine. Returns what was there. */
@inline
function quarantine(next: u32, slot: usize): usize {
  const place = STATE + QUARANTINE + ((<usize>next) << 2);
  const oldest = load<usize>(place);
  store<usize>(place, slot);
  return oldest;
}

/** Puts a slot that was in quarantine on its run's list. */
function freeSlot(slot: usize): void {
  const page = runOf(pageOf(slot));
  const bin = kindOf(page);
  const info = infoOf(page);
  // The link would hide what was written here.
  if (load<u64>(slot)) blameFree(slot, slotSize(bin));
  setLink(slot, info.pages);
  info.pages = slot;
  if (!info.free++) push(partialList(bin), page);
  // The only run of a bin stays, if it is short.
  if (<u32>info.free == runSlots(bin) && (bin >= MEDIUM_BIN || info.next | info.prev))
    freeEmptyRun(bin, page);
}

/** Gives a run without blocks back. */
function freeEmptyRun(bin: u32, page: u32): void {
  const bytes = slotSize(bin);
  const slots = runSlots(bin);
  const pages = runPages(bytes);
  for (let i: u32 = 0; i < slots; ++i) checkFree(addressOf(page) + i * bytes, bytes);
  expectTail(page, slots * bytes, pages);
  remove(partialList(bin), page);
  fillMemory(addressOf(page), 0, pages << PAGE_BITS);
  fillMemory(state().kinds + page, <u8>NONE, pages);
  freeRun(page, pages);
}

function freeLarge(page: u32): void {
  const info = checkLarge(page);
  const pages = <u32>info.pages;
  fillMemory(addressOf(page), 0, largeSize(info) + 1);
  setKind(page, NONE);
  freeRun(page, pages);
  setBeganBlock(page, true);
}

/** Frees all that waits, and all runs without blocks. Needs the lock. */
export function emptyQuarantine(): void {
  for (let i: u32 = 0; i < QUARANTINE_SLOTS; ++i) {
    const slot = quarantine(i, 0);
    if (slot) freeSlot(slot);
  }
  for (let bin = FIRST_BIN; bin < MEDIUM_BIN; ++bin) {
    const page = load<u32>(partialList(bin));
    if (page && <u32>infoOf(page).free == runSlots(bin)) freeEmptyRun(bin, page);
  }
}

// Resizing.

/** Resizes a block; 0, with the block as it was, when memory is out. New bytes are zero. */
export function resizeChecked(block: usize, size: usize): usize {
  lock();
  const resized = resizeBlock(block, size);
  unlock();
  return resized;
}

function resizeBlock(block: usize, size: usize): usize {
  let old: usize = 0;
  let kind: u32 = NONE;
  if (!isZeroBlock(block)) {
    kind = kindOfBlock(block);
    old = sizeOf(block, kind);
    if (fitsWell(kind, size) && resizeInPlace(block, kind, old, size)) return block;
  }
  const moved = takeBlock(size, 0);
  if (!moved) return size - 1 < old && resizeInPlace(block, kind, old, size) ? block : 0;
  // A block of no bytes lies outside memory, where even copying nothing traps.
  const kept = min(old, size);
  if (kept) copyMemory(moved, block, kept);
  freeBlock(block);
  return moved;
}

/** Whether a block of `size` bytes should stay where it is, if it can. */
function fitsWell(kind: u32, size: usize): bool {
  return size > (kind == LARGE ? BIN_MAX : slotSize(kind)) >>> 1;
}

/** Resizes a block of `old` bytes to `size`, more than 0, where it lies. Returns whether it could. */
function resizeInPlace(block: usize, kind: u32, old: usize, size: usize): bool {
  if (kind == LARGE) return resizeLarge(pageOf(block), size);
  const bytes = slotSize(kind);
  if (size > bytes - TRAILER_SIZE) return false;
  // The old guard goes, and with it what lies behind the new end. An alignment is not kept.
  if (alignmentIn(trailerOf(block, bytes), block, bytes)) store<u8>(block + bytes - TRAILER_SIZE - 1, 0);
  store<u8>(block + old, 0);
  if (size < old) fillMemory(block + size, 0, old - size);
  guardSlot(block, bytes, size, 0);
  return true;
}

/** Resizes the page run of a large block where it lies. Returns whether it could. */
function resizeLarge(page: u32, size: usize): bool {
  if (<isize>size < 0) return false;
  const info = infoOf(page);
  const block = addressOf(page);
  const old = largeSize(info);
  const from = <u32>info.pages;
  const to = pagesFor(size + 1);
  if (to > from) {
    if (!extendRun(page, from, to)) return false;
    expectZero(addressOf(page + from), addressOf(page + to));
  }
  store<u8>(block + old, 0);
  if (size < old) fillMemory(block + size, 0, old - size);
  shrinkRun(page, from, to);
  info.pages = to;
  setLargeAlignment(info, 0);
  guardLarge(page, size);
  return true;
}

/** Resizes a block of the page allocator; 0, with the block as it was, when memory is out. */
export function resizePagesChecked(run: usize, size: usize): usize {
  lock();
  let resized = run;
  if (kindOfBlock(run) != LARGE) rsbmalloc_invalid_free(run, 0);
  const old = largeSize(checkLarge(pageOf(run)));
  if (!resizeLarge(pageOf(run), size)) {
    resized = takeLarge(size, 0);
    if (resized) {
      copyMemory(resized, run, min(old, size));
      freeBlock(run);
    }
  }
  unlock();
  return resized;
}

/** A page run for `size` bytes at a multiple of `alignment`; 0 when memory is out. */
export function allocatePagesChecked(size: usize, alignment: usize): usize {
  lock();
  const run = takeLarge(size, alignment);
  unlock();
  return run;
}

// Blocks of no bytes: a bit tells which are in use. They are handed out in turn.

@inline
function isZeroBlock(block: usize): bool {
  return block >= ZERO_BASE;
}


@inline
function zeroBit(index: usize): usize {
  return STATE + ZERO_BLOCKS + (index >>> 3);
}

/** 0 if all are in use. */
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

function freeZero(block: usize): void {
  const offset = block - ZERO_BASE;
  const index = <u32>(offset >>> ZERO_GRANULE_BITS);
  const byte = load<u8>(zeroBit(index));
  const bit = 1 << (index & 7);
  if (offset & ((1 << ZERO_GRANULE_BITS) - 1) || index >= guards().zeroEver) rsbmalloc_invalid_free(block, 0);
  if (!(byte & bit)) rsbmalloc_double_free(block, 0);
  store<u8>(zeroBit(index), byte & ~bit);
}

// Telling which bug it was. These are slow, and never return.

/** A pointer that is no block's start, as far as the page map tells. */
function blamePointer(block: usize): u32 {
  // Whoever frees memory that is free has most likely freed it before.
  const page = pageOf(block);
  const began =
    page < state().end && !(block & (PAGE - 1)) && isSane(page) && kindOf(page) == NONE && beganBlock(page);
  if (began || (!(block & 15) && isFreeAgain(page))) rsbmalloc_double_free(block, 0);
  rsbmalloc_invalid_free(block, 0);
  return NONE;
}

/** Whether a page is free and was handed out before. */
function isFreeAgain(page: u32): bool {
  const s = state();
  if (page >= s.fresh) return false;
  for (let at = s.start; at <= page;) {
    const pages = lengthOf(at);
    if (page < at + pages) return kindOf(at) == FREE;
    at += pages;
  }
  return false;
}

/** What should be a block in a slot, and is none or is not guarded. */
function blameBlock(block: usize, bytes: u32): void {
  const page = pageOf(block);
  if (!isSane(page)) rsbmalloc_overflow(block, 0);
  const offset = <u32>(block - addressOf(runOf(page)));
  const slot = block - (offset % bytes);
  const contents = trailerOf(slot, bytes);
  // Of the memory that is free, some may have been a block of another size.
  if (contents == FREED) rsbmalloc_double_free(block, 0);
  if (slot != block || contents == NEVER_USED || offset / bytes >= runSlots(kindOf(page)))
    rsbmalloc_invalid_free(block, 0);
  rsbmalloc_overflow(block, contents == BROKEN ? 0 : sizeIn(contents));
}

/** A free slot that was written to: by a stale pointer, or from a block beside it. */
function blameFree(slot: usize, bytes: u32): void {
  if (trailerOf(slot, bytes) & ~FREED) rsbmalloc_overflow(slot, 0);
  const before = slot - bytes;
  if (slot > addressOf(runOf(pageOf(slot))) && isBrokenBlock(before, bytes)) rsbmalloc_overflow(before, 0);
  rsbmalloc_use_after_free(slot, 0);
}

/** How far before its start a block is written to by mistake, in bytes. */
const UNDERFLOW: usize = 64;

/** Free pages that were written to: by a stale pointer, or from the block before or behind them. */
function blamePages(start: usize, end: usize): void {
  const s = state();
  let before: u32 = 0;
  for (let page = s.start; page < pageOf(start);) {
    before = page;
    page += lengthOf(page);
  }
  const kind = kindOf(before);
  if (kind == LARGE) checkLarge(before);
  if (kind >= FIRST_BIN) {
    const bytes = slotSize(kind);
    const last = addressOf(before) + (runSlots(kind) - 1) * bytes;
    if (isBrokenBlock(last, bytes)) rsbmalloc_overflow(last, 0);
  }
  if (kindOf(pageOf(end)) >= LARGE && isZero(start, end - UNDERFLOW)) rsbmalloc_overflow(end, 0);
  rsbmalloc_use_after_free(start, 0);
}

function isBrokenBlock(slot: usize, bytes: u32): bool {
  const contents = trailerOf(slot, bytes);
  if (contents == BROKEN) return true;
  const size = sizeIn(contents);
  return size != 0 && (size > bytes - TRAILER_SIZE || !isGuarded(slot, contents, bytes));
}

// Checking the heap.

/** Walks the whole heap and traps at the first damage. */
export function checkHeap(): void {
  lock();
  const s = state();
  const wall = guards().wall;
  if (wall && !isZero(addressOf(wall), addressOf(wall + 1))) rsbmalloc_overflow(addressOf(wall + 1), 0);
  for (let page = s.start; page < s.end;) {
    const pages = lengthOf(page);
    const kind = kindOf(page);
    if (kind >= FIRST_BIN) checkRun(page, kind);
    else if (kind == LARGE) checkLarge(page);
    else if (kind == FREE && page < s.fresh)
      expectZero(addressOf(page), addressOf(min<u32>(page + pages, s.fresh)));
    page += pages;
  }
  unlock();
}

/** A free slot, in quarantine or not. */
function checkFree(slot: usize, bytes: u32): void {
  if (
    trailerOf(slot, bytes) & ~FREED ||
    (load<u64>(slot) && linkOf(slot) == BROKEN_LINK) ||
    !isZeroSlot(slot, bytes)
  ) {
    blameFree(slot, bytes);
  }
}

/** Checks a run of slots. */
function checkRun(page: u32, bin: u32): void {
  const bytes = slotSize(bin);
  const pages = runPages(bytes);
  const slots = runSlots(bin);
  const first = addressOf(page);
  for (let i: u32 = 0; i < slots; ++i) {
    const slot = first + i * bytes;
    const contents = trailerOf(slot, bytes);
    if (contents & ~FREED) contentsOf(slot, bytes);
    else checkFree(slot, bytes);
  }
  expectTail(page, slots * bytes, pages);
  let free = infoOf(page).free;
  for (let slot = infoOf(page).pages; slot; slot = linkOf(slot)) {
    if (slot - first >= <usize>slots * bytes || --free < 0) rsbmalloc_corruption(slot, 0);
  }
  if (free) rsbmalloc_corruption(first, 0);
}
