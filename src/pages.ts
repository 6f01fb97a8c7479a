// The page map and the page allocator: runs of pages that split, coalesce and grow in place.
//
// A run is some neighbouring pages that serve one thing: a bin's slots or a large block. What is known of it stands in a Run,
// among its like in pages that are made of them, where it stays as long as the run is in use. The page map has an address for
// each page from address 0, that of its Run, so that one load tells what a pointer is:
//
//     map      | noRun | metadata | a | a | a | b | noRun | noRun | noRun | ...
//     run                             slots       large block  free
//
// All pages of a run of several slots lead to its Run, and the first of one that serves a single block, in a slot or large.
// Pages that Runs lie in lead to `metadata`, and all others to `noRun`, which are of kind NONE. That goes for pages before and
// behind the heap, too, as far as the map reaches. Which of them are free is known to src/free-pages.ts.
//
// A page is made Runs when one is wanted and none is spare, and is free again once none of them is in use.
//
// The map begins in the odd space after the program's data and moves to a place twice as large when the heap outgrows it.
// Before memory grows though enough of it is free, `pack` moves it to a lower place: it may lie between free pages.
//
// Where there are threads, all of this needs the lock but one thing: whoever has a block may look up its Run, and there
// its kind and size.
// - The map's entry for the block's page and these two were written before the heap handed the block out, and they stay
//   while the block lives; but for the size of a large block, which changes when its owner resizes it. Words are apart:
//   writing another page's entry, or what else is in the Run, does not touch them.
// - A Run with blocks stays where it is, and so does the page that it lies in.
// - When the map moves, its new address is stored after the copy and loaded by `runOf`, both atomically: who sees the
//   new address sees the copy. Who has just loaded the old address finds the block's entry there, because the memory of
//   old maps is never used again. The map doubles, so all old ones together are no larger than the present one.
// - An older address than that of the block's own time can't be loaded: the block came to this thread after it.

import {
  EMSCRIPTEN,
  METADATA_PAGES,
  METADATA,
  HARDENED,
  LARGE,
  LAST_PAGE,
  LOCKED,
  MAP,
  NO_RUN,
  PAGE,
  PAGE_BITS,
  RUN_BITS,
  RUN_STEP,
  STATE,
  WASM_PAGE_BITS,
  state,
} from "./config";
import { rsbmalloc_use_after_free } from "./faults";
import {
  WORD_PAGES,
  addFree,
  findFree,
  freeBefore,
  freeBytes,
  freeFrom,
  moveFree,
  takeFree,
} from "./free-pages";
import { isZero } from "./guards";
import { trapUnlocked } from "./lock";
import {
  copyMemory,
  fillMemory,
  growMemory,
  grownPages,
  heapBase,
  heapEndPage,
  isInMemory,
  memoryEndPage,
  startLibc,
} from "./memory";

/** What is known of a run. In a hardened build some of it means other things: src/hardened.ts. */
@unmanaged
export class Run {
  /** Slots: the first that was freed, a list linked through their first words. LARGE: the block, once it is freed. */
  free: usize;
  /** The next run with an event. */
  event: usize;
  /** How many frees it takes until there is an event; see src/bins.ts. */
  left: i32;
  /** Neighbours in a ring: the bin's runs with freed slots. `next` is null in none. */
  next: Run;
  prev: Run;
  /** Address of the first page. */
  start: usize;
  /** Bytes of a slot; of the whole run, if it is of another kind. */
  size: u32;
  /** What the run serves. */
  kind: u16;
  /** How many slots there are; 1 if the run is of another kind. */
  slots: u16;
}

/**
 * Where the Runs of a page end that is made of them. In a hardened build the last one stays zero: what is written before a block
 * that lies behind shows there.
 */
export const RUNS_END: usize = <usize>PAGE - (HARDENED ? RUN_STEP : 0);

/** How many Runs a page has for others. */
export const RUNS_PER_PAGE: u32 = <u32>(RUNS_END >>> RUN_BITS) - 1;

/** So many pages are made Runs at first. In a hardened build as many as a small program needs: no block was ever there. */
const FIRST_METADATA_PAGES: u32 = HARDENED ? 2 : 1;

/** How many pages a page of the map describes. */
const MAP_PAGE: u32 = 1 << (PAGE_BITS - 2);

/** Bytes of an entry of the map, and how an offset from a page's start becomes that of its entry. */
const ENTRY: usize = sizeof<usize>();
const ENTRY_SHIFT: u32 = PAGE_BITS - 2;

/** What growing may add to what was asked for, in pages: a wasm page begun, and pages for the map and Runs. */
const SLACK: u32 = 4 << (WASM_PAGE_BITS - PAGE_BITS);


@inline
export function pageOf(address: usize): u32 {
  return <u32>(address >>> PAGE_BITS);
}


@inline
export function addressOf(page: u32): usize {
  return (<usize>page) << PAGE_BITS;
}

/** Pages that hold `bytes`. */
@inline
export function pagesFor(bytes: usize): u32 {
  return <u32>((bytes + (PAGE - 1)) >>> PAGE_BITS);
}


@inline
export function pagesOf(run: Run): u32 {
  return pagesFor(<usize>run.slots * run.size);
}

/** Pages to go on by from the first page of a run, or from one in none. */
export function lengthOf(run: Run): u32 {
  return max<u32>(pagesOf(run), 1);
}

// The map.

@inline
export function noRun(): Run {
  return changetype<Run>(STATE + NO_RUN);
}

/** Stands in the map for pages that are made of Runs. */
@inline
export function metadata(): Run {
  return changetype<Run>(STATE + METADATA);
}


@inline
function pageMap(): usize {
  return LOCKED ? atomic.load<usize>(STATE, MAP) : load<usize>(STATE, MAP);
}


@inline
function entryOf(page: u32): usize {
  return pageMap() + ((<usize>page) << 2);
}

/** Where the map has the page that starts at an address. */
@inline
function entryAt(start: usize): usize {
  return pageMap() + (start >>> ENTRY_SHIFT);
}

/** The entry behind those of a run, of which the first is given. */
@inline
function entriesBehind(first: usize, run: Run): usize {
  return first + (run.size >>> ENTRY_SHIFT);
}

/** The Run that a block's page leads to. */
@inline
export function runOf(block: usize): Run {
  return changetype<Run>(load<usize>(entryOf(pageOf(block))));
}

/** The Run that a page leads to: the same, where code is to be small. */
export function runAt(page: u32): Run {
  return changetype<Run>(load<usize>(entryOf(page)));
}

/** Makes the page that an address lies in lead to a Run. */
export function setRun(address: usize, run: Run): void {
  store<Run>(entryOf(pageOf(address)), run);
}

/** Makes the pages of a run in use lead to it or to nobody. Of one that serves a single block only the first ever does. */
export function setRuns(run: Run, to: Run): void {
  let entry = entryAt(run.start);
  const end = entry + (run.slots > 1 ? (<usize>pagesOf(run)) << 2 : ENTRY);
  for (; entry < end; entry += ENTRY) store<Run>(entry, to);
}

/** Makes `bytes` of entries lead to nobody, which are many or none: what is done already does as much again. */
@inline
function leadNowhere(first: usize, bytes: usize): void {
  if (!bytes) return;
  store<Run>(first, noRun());
  for (let done = ENTRY; done < bytes; done <<= 1) copyMemory(first + done, first, min(done, bytes - done));
}

/** Sets what a run serves and its slots, which lie side by side. */
@inline
export function setKind(run: Run, kind: u32, slots: u32): void {
  store<u32>(changetype<usize>(run), kind | (slots << 16), offsetof<Run>("kind"));
}

// Pages that are made of Runs. Each has a list of those that are spare, and the first of its Runs is for itself:
//
//     free          the first of the spare Runs; the end of them all if there is none
//     left          how many are in use
//     next, prev    neighbours in the ring of such pages that have spare Runs; `next` is null in none
//
// A spare Run has in `event` how much further than to its neighbour the list goes on: a page of zeros lists them all.

/** A run for a large block, whose pages lead nowhere. Needs a spare Run. */
function newRun(start: usize, bytes: u32): Run {
  const header = metadataPages().next;
  const run = changetype<Run>(header.free);
  header.free += run.event + RUN_STEP;
  ++header.left;
  if ((header.free & (PAGE - 1)) == (RUNS_END & (PAGE - 1))) remove(header);
  run.next = changetype<Run>(0);
  run.start = start;
  run.size = bytes;
  run.left = 1;
  setKind(run, LARGE, 1);
  return run;
}

/** Has a Run no longer in use, and frees its page if no other is in use there. */
function dropRun(run: Run): void {
  const header = changetype<Run>(changetype<usize>(run) & -PAGE);
  run.event = header.free - changetype<usize>(run) - RUN_STEP;
  header.free = changetype<usize>(run);
  if (!header.next) addBefore(metadataPages(), header);
  if (!--header.left) freeMetadata(header);
}

function freeMetadata(header: Run): void {
  const page = changetype<usize>(header);
  remove(header);
  setRun(page, noRun());
  // All that is free is zero there.
  if (HARDENED) fillMemory(page, 0, PAGE);
  addFree(pageOf(page), 1);
}

/** Whether there is a spare Run. */
@inline
export function hasSpareRun(): bool {
  return metadataPages().next != metadataPages();
}

/** Sees to it that there is a spare Run. Returns whether there is. */
function reserve(): bool {
  while (!hasSpareRun()) {
    const page = findFree(1);
    if (page) makeMetadata(takeOwn(page, 1));
    // Where growth stopped short, the map may have left some.
    else if (!grow(1, false) && !findFree(1)) return false;
  }
  return true;
}

/** Makes Runs of a page that leads nowhere. */
function makeMetadata(page: usize): void {
  setRun(page, metadata());
  fillMemory(page, 0, PAGE);
  const header = changetype<Run>(page);
  header.free = page + RUN_STEP;
  addBefore(metadataPages(), header);
}

// Rings of runs. Each has a place that is none, but whose `next` and `prev` are the first and the last of them.

/** Makes a ring of no runs. */
export function startRing(ring: Run): void {
  ring.next = ring;
  ring.prev = ring;
}

/** Adds a run before another one; before a ring's own place, as the last. */
@inline
export function addBefore(next: Run, run: Run): void {
  const prev = next.prev;
  run.next = next;
  run.prev = prev;
  prev.next = run;
  next.prev = run;
}

export function remove(run: Run): void {
  const next = run.next;
  const prev = run.prev;
  next.prev = prev;
  prev.next = next;
  run.next = changetype<Run>(0);
}

/** The ring of pages with spare Runs. */
@inline
function metadataPages(): Run {
  return changetype<Run>(STATE + METADATA_PAGES - offsetof<Run>("next"));
}

// Pages that are handed out and given back.

/** Takes free pages for what the heap has for its own use, and returns their address. */
function takeOwn(page: u32, pages: u32): usize {
  const start = addressOf(page);
  // What is written there now would hide what a program wrote. Nobody has written to fresh pages.
  if (HARDENED && !isZero(start, addressOf(min(page + pages, state().fresh))))
    rsbmalloc_use_after_free(start, 0);
  takeFree(page, pages);
  return start;
}

/** Counts pages that are handed out. */
@inline
function use(pages: u32): void {
  const s = state();
  s.used += pages;
  s.peak = max<u32>(s.peak, s.used);
}

/**
 * Hands out free pages, as a run for a large block whose pages lead nowhere; null if there is no other page for its Run. Traps if an
 * address was freed where no block starts, for that may be one of theirs.
 */
export function take(page: u32, pages: u32): Run {
  if (noRun().left != 1) trapUnlocked();
  takeFree(page, pages);
  if (!reserve()) {
    addFree(page, pages);
    return changetype<Run>(0);
  }
  use(pages);
  return newRun(addressOf(page), pages << PAGE_BITS);
}

/** Makes pages free that were handed out and lead nowhere. */
function putFree(start: usize, pages: u32): void {
  state().used -= pages;
  addFree(pageOf(start), pages);
}

/** Gives a run back. */
export function freeRun(run: Run): void {
  const pages = pagesOf(run);
  const start = run.start;
  setRuns(run, noRun());
  dropRun(run);
  putFree(start, pages);
}

/** Frees the pages after the first `pages` of a run that is no bin's. */
export function shrinkRun(run: Run, pages: u32): void {
  const rest = (run.size >>> PAGE_BITS) - pages;
  if (!rest) return;
  run.size = pages << PAGE_BITS;
  putFree(run.start + run.size, rest);
}

/** Frees what lies before a multiple of `alignment` pages, and what is more than `pages`. */
export function trimRun(run: Run, alignment: u32, pages: u32): void {
  const before = -pageOf(run.start) & (alignment - 1);
  if (before) cutFront(run, before);
  shrinkRun(run, pages);
}

/** Frees the first `pages` of a run that leads nowhere. */
export function cutFront(run: Run, pages: u32): void {
  const start = run.start;
  run.start += addressOf(pages);
  run.size -= pages << PAGE_BITS;
  putFree(start, pages);
}

/** Lengthens a run that is no bin's to `pages` where it lies. Returns whether there was room. */
export function extendRun(run: Run, pages: u32): bool {
  const next = pageOf(run.start + run.size);
  const more = pages - (run.size >>> PAGE_BITS);
  if (freeFrom(next, more) < more) return false;
  use(more);
  takeFree(next, more);
  run.size = pages << PAGE_BITS;
  return true;
}

/** Whether behind a run that is no bin's there is nothing but free pages, which grow with linear memory. */
export function isLast(run: Run): bool {
  const s = state();
  const next = pageOf(run.start + run.size);
  return s.end == memoryEndPage() && next + freeFrom(next, s.end) == s.end;
}

// Growing.

/** Where what is ours ends of the memory that `growMemory(pages)` took from `page` on. */
function grownEnd(page: u32, pages: u32): u32 {
  return min<u32>(page + grownPages(pages), LAST_PAGE);
}

/** Makes the first map, and has free what lies behind it. Returns whether there was memory. */
export function startPages(): bool {
  startLibc();
  const s = state();
  noRun().left = 1;
  metadata().left = 1;
  startRing(metadataPages());
  let base = heapBase();
  let end = heapEndPage();
  // With room for the pages of the map itself.
  let capacity = max(end, memoryEndPage()) + SLACK;
  capacity = (capacity + capacity / MAP_PAGE + WORD_PAGES) & -WORD_PAGES;
  // In pages, which do not wrap at 4 GiB.
  const bytes = mapBytes(capacity) + FIRST_METADATA_PAGES * PAGE;
  let own = pageOf(base) + pagesFor((base & (PAGE - 1)) + bytes);
  if (<i32>(end - own) < 0) {
    const pages = pagesFor(bytes);
    const page = growMemory(pages);
    end = grownEnd(page, pages);
    if (!page) return false;
    // Another thread's own growth came between: what we have then is lost.
    if (LOCKED && end >= capacity) return startPages();
    base = addressOf(page);
    own = page + pages;
  }
  s.start = pageOf(base);
  s.end = end;
  s.fresh = own;
  moveMap(base, capacity);
  for (let page = own - FIRST_METADATA_PAGES; page < own; ++page) makeMetadata(addressOf(page));
  // It is in use for ever, so that their page stays, below all that is free.
  newRun(0, 0);
  addPages(own, end);
  return true;
}

/** How many pages a map describes that reaches as far as page `end`, and as far again: whole pages of the map. */
function capacityFor(end: u32): u32 {
  return min<u32>(((end + SLACK) << 1) | (MAP_PAGE - 1), LAST_PAGE | (MAP_PAGE - 1)) + 1;
}

/**
 * Grows linear memory until a run of `pages` fits at its end, using what is free there. Returns false when it can't grow so far;
 * then nothing has changed.
 * Under Emscripten, whose sbrk may end the program where there is no more memory, a try grows only to where linear memory ends.
 */
export function grow(pages: u32, isTry: bool): bool {
  const s = state();
  const memoryEnd = memoryEndPage();
  let more = pages;
  let room: u32 = 0;
  if (s.end == memoryEnd) {
    room = freeBefore(memoryEnd);
    more = room < pages ? pages - room : 1;
  }
  let capacity = s.capacity;
  if (grownEnd(memoryEnd, more) >= capacity) {
    capacity = capacityFor(memoryEnd + pages);
    const map = pagesFor(mapBytes(capacity));
    const place = findFree(map);
    if (!place) more = pages + map;
    // It will lie in what is free at the end.
    else if (place >= memoryEnd - room) more += map;
  }
  // At 4 GiB the end of memory is behind the last page.
  if (<i32>(memoryEnd + more) > <i32>LAST_PAGE) return false;
  if (EMSCRIPTEN && isTry && !isInMemory(memoryEnd + more)) return false;
  const page = growMemory(more);
  if (!page) return false;
  const end = grownEnd(page, more);
  let first = page;
  if (end >= s.capacity) {
    // Another thread's own growth may have come between.
    if (LOCKED && end >= capacity) capacity = capacityFor(end);
    // Better in the midst of the heap than at its end, where it would be in the way of blocks that grow.
    const map = pagesFor(mapBytes(capacity));
    const place = findFree(map);
    if (place) {
      moveMap(takeOwn(place, map), capacity);
    } else {
      // What no map describes is lost.
      if (LOCKED && <i32>(end - page) < <i32>map) return grow(pages, isTry);
      moveMap(addressOf(page), capacity);
      first += map;
    }
  }
  s.end = max(s.end, end);
  addPages(first, end);
  return true;
}

/** Moves the map to a lower place, if there is one: it may lie between free pages, which coalesce then. */
export function pack(): void {
  const s = state();
  // Where there are threads, a map's place stays in use. The first map is none of whole pages.
  if (LOCKED || s.capacity & (MAP_PAGE - 1)) return;
  const pages = pagesFor(mapBytes(s.capacity));
  const page = findFree(pages);
  if (page && page < pageOf(pageMap())) moveMap(takeOwn(page, pages), s.capacity);
}

/** Makes the pages from `page` to `end` free. */
function addPages(page: u32, end: u32): void {
  if (page < end) addFree(page, end - page);
}

/** Whether a page begins within the map. */
export function isMapPage(page: u32): bool {
  return addressOf(page) - pageMap() < mapBytes(state().capacity);
}

/** Bytes of a map of `capacity` pages. */
function mapBytes(capacity: u32): usize {
  return ((<usize>capacity) << 2) + freeBytes(capacity);
}

/** Makes a map of `capacity` pages at `address`, and frees the old one. */
function moveMap(address: usize, capacity: u32): void {
  const s = state();
  const old = pageMap();
  const oldSize = mapBytes(s.capacity);
  const kept = (<usize>s.capacity) << 2;
  const entries = (<usize>capacity) << 2;
  copyMemory(address, old, kept);
  leadNowhere(address + kept, entries - kept);
  moveFree(address + entries, capacity);
  s.capacity = capacity;
  if (LOCKED) {
    atomic.store<usize>(STATE, address, MAP);
    return;
  }
  store<usize>(STATE, address, MAP);
  // The first map may share its first page with the program's data.
  const page = pagesFor(old);
  const end = pagesFor(old + oldSize);
  if (!old || page >= end) return;
  // The call that this growth is for may be calloc, and count on fresh pages.
  memory.fill(addressOf(page), 0, addressOf(end - page));
  addPages(page, end);
}
