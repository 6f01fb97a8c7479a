// The page map and the page allocator: page runs, which are allocated, freed, and grown in place.
//
// A page run is a range of adjacent pages with one purpose: slots of a bin, or a large block. It is described by a
// record, its Run, which lies among others in a metadata page and does not move while the run is in use. The page map
// has an entry for each page from address 0, the address of its Run, so that one load tells what a pointer is:
//
//     map      | noRun | metadata | a | a | a | b | noRun | noRun | noRun | ...
//     pages     program  Runs       slots       large block         free
//
// All pages of a run with several slots point to its Run. If the run holds a single block, be that a slot or a large
// block, only its first page does. Metadata pages point to the Run `metadata`, and all others to `noRun`, including
// those outside the heap, as far as the map reaches. Both are of kind NONE. src/free-pages.ts keeps track of the pages
// that are free.
//
// A page is turned into Runs when one is needed and none is spare. It becomes free when none of its Runs is in use.
//
// The map begins in the odd space after the program's data, and moves to a place twice as large when the heap outgrows
// it. Before memory grows although enough pages are free in total, `pack` moves the map to a lower place: it may lie
// between free pages.
//
// Memory ordering. In builds for threads the lock guards all of this, with one exception unless they are hardened: a
// thread that has a block may look up the block's Run, and its kind, start and size there, without the lock.
// wasi-tests/model/map.pml checks that this holds while the map moves.
// - The map entry of the block's page and these fields were written before the heap handed the block out, and do
//   not change while the block lives, except for the size of a large block, which changes when its owner resizes it.
//   They share no word with what others write meanwhile: the entries of other pages, and other fields of the Run.
// - A Run with blocks does not move, and its metadata page stays one.
// - When the map moves, its new address is stored after the copy, and `runOf` loads it, both atomically: a thread that
//   sees the new address sees the copy. A thread that has just loaded the old address finds the block's entry there,
//   because the memory of old maps is never reused. The map doubles each time, so all old maps together are no larger
//   than the present one.
// - A thread can't load an address older than the one that was current when the block was handed out, because the
//   block reached the thread after that.

import {
  COMPACT,
  EMSCRIPTEN,
  METADATA_PAGES,
  METADATA,
  HARDENED,
  LARGE,
  LAST_PAGE,
  LOCKED,
  LOCK_FREE_MAP,
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
  addFreeInline,
  findFree,
  freeBefore,
  freeBytes,
  freeFrom,
  moveFree,
  takeFree,
  takeFreeInline,
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
  leastGrowth,
  memoryEndPage,
  startLibc,
} from "./memory";

/** The metadata of a page run. Some fields have other meanings in a hardened build: src/hardened.ts. */
@unmanaged
export class Run {
  /** Slots: head of the list of freed slots, linked through their first words. LARGE: the block, once it is freed. */
  free: usize;
  /** The next in the list of runs with an event. */
  event: usize;
  /** Number of frees until the run has an event; see src/bins.ts. */
  left: i32;
  /** Neighbours in the ring of the bin's runs that have freed slots. `next` is null if the run is in no ring. */
  next: Run;
  prev: Run;
  /** Address of the first page. */
  start: usize;
  /** Size in bytes of a slot; of a large block's whole run. */
  size: u32;
  /** What the run is used for: NONE, LARGE or a bin. */
  kind: u16;
  /** Number of slots; 1 for a large block, 0 for `noRun` and `metadata`. */
  slots: u16;
}

/**
 * Where the Runs of a metadata page end. In a hardened build the last one stays zero, to reveal writes before the start
 * of a block in the next page.
 */
export const RUNS_END: usize = <usize>PAGE - (HARDENED ? RUN_STEP : 0);

/** Number of Runs in a metadata page, without the one that the page has for itself. */
export const RUNS_PER_PAGE: u32 = <u32>(RUNS_END >>> RUN_BITS) - 1;

/** Metadata pages to start with. A hardened build takes as many as a small program needs, where no block ever was. */
const FIRST_METADATA_PAGES: u32 = HARDENED ? 2 : 1;

/** Number of pages that one page of the map describes. */
const MAP_PAGE: u32 = 1 << (PAGE_BITS - 2);

/** Size of a map entry in bytes, and the shift from the address of a page to the offset of its entry. */
const ENTRY: usize = sizeof<usize>();
const ENTRY_SHIFT: u32 = PAGE_BITS - 2;

/** What growing may add to the pages asked for, in pages: the rest of a wasm page, and room for the map and Runs. */
const SLACK: u32 = 4 << (WASM_PAGE_BITS - PAGE_BITS);


@inline
export function pageOf(address: usize): u32 {
  return <u32>(address >>> PAGE_BITS);
}


@inline
export function addressOf(page: u32): usize {
  return (<usize>page) << PAGE_BITS;
}

/** Returns the number of pages that hold `bytes`. */
@inline
export function pagesFor(bytes: usize): u32 {
  return <u32>((bytes + (PAGE - 1)) >>> PAGE_BITS);
}


@inline
export function pagesOf(run: Run): u32 {
  return pagesFor(<usize>run.slots * run.size);
}

/** Returns how many pages a walk over the heap advances by: those of a run, or 1 for a page that is in none. */
export function lengthOf(run: Run): u32 {
  return max<u32>(pagesOf(run), 1);
}

// The map.

@inline
export function noRun(): Run {
  return changetype<Run>(STATE + NO_RUN);
}

/** What metadata pages point to in the map. */
@inline
export function metadata(): Run {
  return changetype<Run>(STATE + METADATA);
}


@inline
function pageMap(): usize {
  return LOCK_FREE_MAP ? atomic.load<usize>(STATE, MAP) : load<usize>(STATE, MAP);
}


@inline
function entryOf(page: u32): usize {
  return pageMap() + ((<usize>page) << 2);
}

/** Returns the address of the map entry of the page that starts at `start`. */
@inline
function entryAt(start: usize): usize {
  return pageMap() + (start >>> ENTRY_SHIFT);
}

/** Returns the Run that a block's page points to. */
@inline
export function runOf(block: usize): Run {
  return changetype<Run>(load<usize>(entryOf(pageOf(block))));
}

/** Returns the Run that a page points to. Not inlined, for where small code matters more than speed. */
export function runAt(page: u32): Run {
  return changetype<Run>(load<usize>(entryOf(page)));
}

/** Makes the page that starts at `start` point to a Run. */
@inline
export function setRun(start: usize, run: Run): void {
  store<Run>(entryAt(start), run);
}

/** Makes the `pages` pages of a run point to it or to `noRun`; only the first page if it holds a single block. */
@inline
export function setRuns(run: Run, pages: u32, to: Run): void {
  let entry = entryAt(run.start);
  const end = entry + (run.slots > 1 ? (<usize>pages) << 2 : ENTRY);
  do {
    store<Run>(entry, to);
    entry += ENTRY;
  } while (entry < end);
}

/** Makes `bytes` of entries, one at least, point to `noRun`: each copy doubles the part that is done. */
@inline
function clearEntries(first: usize, bytes: usize): void {
  if (COMPACT) {
    const end = first + bytes;
    do store<Run>(first, noRun());
    while ((first += ENTRY) < end);
    return;
  }
  store<Run>(first, noRun());
  for (let done = ENTRY; done < bytes; done <<= 1) copyMemory(first + done, first, min(done, bytes - done));
}

/** Sets a run's `kind` and `slots`, which share a word, by one store. */
@inline
export function setKind(run: Run, kind: u32, slots: u32): void {
  store<u32>(changetype<usize>(run), kind | (slots << 16), offsetof<Run>("kind"));
}

// Metadata pages, which are made of Runs. The first Run of each page is its header, with a list of the spare ones:
//
//     free          the first spare Run; the end of the page's Runs if there is none
//     left          number of Runs in use
//     next, prev    neighbours in the ring of metadata pages that have spare Runs; `next` is null if the page has none
//
// In a spare Run, `next` is null, and `event` is the distance in bytes from the Run right after it to the next spare one,
// so that in a page of zeros all Runs are listed.

/** Makes a run of kind LARGE whose pages still point to `noRun`. There must be a spare Run. */
@inline
export function newRun(start: usize, bytes: u32): Run {
  const header = metadataPages().next;
  const run = changetype<Run>(header.free);
  const next = changetype<usize>(run) + run.event + RUN_STEP;
  header.free = next;
  ++header.left;
  if ((next & (PAGE - 1)) == (RUNS_END & (PAGE - 1))) remove(header);
  run.free = 0;
  run.start = start;
  run.size = bytes;
  run.left = 1;
  setKind(run, LARGE, 1);
  return run;
}

/** Puts a Run back among the spare ones, and frees its metadata page if no other Run there is in use. */
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
  // In a hardened build all free memory is zero.
  if (HARDENED) fillMemory(page, 0, PAGE);
  addFree(pageOf(page), 1);
}

/** Returns whether there is a spare Run. */
@inline
export function hasSpareRun(): bool {
  return metadataPages().next != metadataPages();
}

/**
 * Makes a page of spare Runs, but not of any of the `pages` free pages from `page` on. Returns false when memory is
 * out. A try never makes linear memory itself grow: see `grow`.
 */
export function reserve(page: u32, pages: u32, isTry: bool): bool {
  takeFree(page, pages);
  let own: u32;
  do own = findFree(1);
  while (!own && grow(1, 1, isTry));
  if (own) makeMetadata(takeOwn(own, 1));
  addFree(page, pages);
  return !!own;
}

/** Turns a page that points to `noRun` into a metadata page. */
export function makeMetadata(page: usize): void {
  setRun(page, metadata());
  fillMemory(page, 0, PAGE);
  const header = changetype<Run>(page);
  header.free = page + RUN_STEP;
  addBefore(metadataPages(), header);
}

// Rings of runs. Each has a sentinel, which is not a run: its `next` and `prev` are the first and the last run.

/** Makes `ring` the sentinel of an empty ring. */
export function startRing(ring: Run): void {
  ring.next = ring;
  ring.prev = ring;
}

/** Inserts a run before `next`; before the sentinel, as the last of the ring. */
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

/** Returns the sentinel of the ring of metadata pages with spare Runs. */
@inline
function metadataPages(): Run {
  return changetype<Run>(STATE + METADATA_PAGES - offsetof<Run>("next"));
}

// Handing out pages, and taking them back.

/** Takes free pages for the heap's own use. Returns their address. */
function takeOwn(page: u32, pages: u32): usize {
  const start = addressOf(page);
  // Check now: our own data will hide what the program wrote here while the pages were free. Fresh pages were never
  // written to.
  if (HARDENED && !isZero(start, addressOf(min(page + pages, state().fresh))))
    rsbmalloc_use_after_free(start, 0);
  takeFree(page, pages);
  return start;
}

/** Counts pages as handed out; as given back, if negative. */
export function use(pages: u32): void {
  useInline(pages);
}

/** `use`, inlined. */
@inline
function useInline(pages: u32): void {
  const s = state();
  const used = s.used + pages;
  s.used = used;
  if (used > s.peak) s.peak = used;
}

/**
 * Hands out free pages as a run of kind LARGE whose pages still point to `noRun`. There must be a spare Run. Traps if the
 * program has freed an address where no block starts, for it may lie in these pages.
 */
@inline
export function take(page: u32, pages: u32): Run {
  if (noRun().left != 1) trapUnlocked();
  takeFreeInline(page, pages);
  useInline(pages);
  return newRun(addressOf(page), pages << PAGE_BITS);
}

/** Frees a run: its pages and its Run. Returns the number of pages. */
export function freeRun(run: Run): u32 {
  const pages = pagesOf(run);
  const start = run.start;
  setRuns(run, pages, noRun());
  dropRun(run);
  state().used -= pages;
  addFreeInline(pageOf(start), pages);
  return pages;
}

/** Frees the first `pages` pages of a run whose pages point to `noRun`. */
export function cutFront(run: Run, pages: u32): void {
  const start = run.start;
  run.start = start + addressOf(pages);
  run.size -= pages << PAGE_BITS;
  state().used -= pages;
  addFree(pageOf(start), pages);
}

/** Returns the number of pages of a run of kind LARGE. */
@inline
export function largePages(run: Run): u32 {
  return run.size >>> PAGE_BITS;
}

/** Resizes a run of kind LARGE to `pages` pages in place. Returns false if it would need pages that are not free. */
export function resizeRun(run: Run, pages: u32): bool {
  const more = pages - largePages(run);
  const start = pageOf(run.start);
  if (<i32>more >= 0) {
    const end = start + largePages(run);
    if (freeFrom(end, more) < more) return false;
    takeFree(end, more);
  } else {
    addFree(start + pages, -more);
  }
  useInline(more);
  run.size = pages << PAGE_BITS;
  return true;
}

/** Returns whether only free pages follow a run of kind LARGE, up to the end of memory, so that it can grow there. */
@inline
export function isLast(run: Run): bool {
  const end = pageOf(run.start) + largePages(run);
  return end + freeFrom(end, u32.MAX_VALUE) == memoryEndPage();
}

// Growing.

/** Returns where our part of the memory ends that `growMemory(pages)` took from `page` on. */
function grownEnd(page: u32, pages: u32): u32 {
  return min<u32>(page + grownPages(pages), LAST_PAGE);
}

/**
 * Makes the first map, with room for `more` pages beyond those needed, and the first Runs, and frees the memory after them.
 * Returns false when memory is out.
 */
export function startPages(more: u32): bool {
  startLibc();
  const s = state();
  if (!COMPACT) {
    noRun().left = 1;
    metadata().left = 1;
  }
  startRing(metadataPages());
  let base = heapBase();
  let end = heapEndPage();
  // No more than needed, including the pages of the map itself: memory may be unable to grow. It reaches `end` already.
  let capacity = more + memoryEndPage() + SLACK;
  capacity = (capacity + capacity / (MAP_PAGE / 2) + WORD_PAGES) & -WORD_PAGES;
  // Compare pages: unlike addresses they do not wrap at 4 GiB.
  const bytes = mapBytes(capacity) + FIRST_METADATA_PAGES * PAGE;
  let firstFree = pageOf(base) + pagesFor((base & (PAGE - 1)) + bytes);
  if (<i32>(end - firstFree) < 0) {
    const pages = pagesFor(bytes);
    const page = growMemory(pages);
    end = grownEnd(page, pages);
    firstFree = page + pages;
    if (!page || end < firstFree) return false;
    // Another thread grew memory meanwhile, and this map would not reach so far. Start over with one that reaches twice
    // as far, since that may happen again; these pages are lost.
    if (LOCKED && end >= capacity) return startPages(end);
    base = addressOf(page);
  }
  s.start = pageOf(base);
  s.end = end;
  // In a compact build too: none before it is free.
  s.fresh = firstFree;
  moveMap(base, capacity);
  const first = addressOf(firstFree - FIRST_METADATA_PAGES);
  makeMetadata(first);
  if (HARDENED) makeMetadata(first + PAGE);
  // A Run that is never dropped keeps the first metadata page, low in the heap, from becoming free.
  const header = changetype<Run>(first);
  header.free += RUN_STEP;
  header.left = 1;
  addPages(firstFree, end);
  return true;
}

/** Returns the capacity of a map that reaches page `end` and as far again, in whole pages of the map. */
function capacityFor(end: u32): u32 {
  return min<u32>(((end + SLACK) << 1) | (MAP_PAGE - 1), LAST_PAGE | (MAP_PAGE - 1)) + 1;
}

/**
 * Grows linear memory until a run of `pages` pages at a multiple of `alignment` pages fits at its end, together with what
 * is free there already: not enough for the run. Returns false, with the heap unchanged, if it can't grow that far.
 * Under Emscripten, where sbrk may abort the program when memory is out, a try never makes linear memory itself grow.
 */
export function grow(pages: u32, alignment: u32, isTry: bool): bool {
  const s = state();
  const memoryEnd = memoryEndPage();
  const room = s.end == memoryEnd ? freeBefore(memoryEnd) : 0;
  const padding = (room - memoryEnd) & (alignment - 1);
  let more = padding + pages - room;
  let capacity = s.capacity;
  // Rather not so far that it would take a larger map.
  if (EMSCRIPTEN) more = max<i32>(more, min<i32>(leastGrowth(memoryEnd), capacity - memoryEnd - 1));
  // Pages of a larger map, if one is needed, and where it goes: rather in the middle of the heap than at its end, where
  // it would be in the way of blocks that grow.
  let map: u32 = 0;
  let place: u32 = 0;
  if (grownEnd(memoryEnd, more) >= capacity) {
    const most = pages + alignment - 1;
    capacity = capacityFor(memoryEnd + most);
    map = mapPages(capacity);
    if (!COMPACT) place = findFree(map);
    if (!place) more = most + map;
    // The map will take up some of the free pages at the end.
    else if (place >= memoryEnd - room) more += map;
  }
  // With 4 GiB of memory, its end is already beyond LAST_PAGE.
  if (memoryEnd + more > LAST_PAGE) return false;
  if (EMSCRIPTEN && isTry && !isInMemory(memoryEnd + more)) return false;
  const page = growMemory(more);
  if (!page) return false;
  const end = grownEnd(page, more);
  let first = page;
  // Another thread may have grown memory meanwhile.
  if (LOCKED && end >= capacity) {
    capacity = capacityFor(end);
    map = mapPages(capacity);
    if (!COMPACT) place = findFree(map);
  }
  if (place) {
    moveMap(takeOwn(place, map), capacity);
  } else if (map) {
    // These pages have no room for a map that describes them: they are lost.
    if (LOCKED && <i32>(end - page) < <i32>map) return grow(pages, alignment, isTry);
    moveMap(addressOf(page), capacity);
    first += map;
  }
  if (end > s.end) s.end = end;
  addPages(first, end);
  return true;
}

/**
 * Returns whether the heap may ask for `pages` pages without risk: Emscripten's `sbrk` may end the program if linear
 * memory itself has to grow for them, for a page of Runs, or for a larger map, which takes up to a 128th of the heap.
 */
export function mayGrow(pages: u32): bool {
  return !EMSCRIPTEN || isInMemory(memoryEndPage() + pages + (state().capacity >>> 7) + 4);
}

/** Moves the map to a lower place if there is one: free pages on both sides of it will then coalesce. */
export function pack(): void {
  const s = state();
  const pages = mapPages(s.capacity);
  const page = findFree(pages);
  if (page && page < pageOf(pageMap())) moveMap(takeOwn(page, pages), s.capacity);
}

/** Frees the pages from `page` to `end`, if there are any. */
function addPages(page: u32, end: u32): void {
  if (page < end) addFree(page, end - page);
}

/** Returns whether a page begins within the map. */
export function isMapPage(page: u32): bool {
  return addressOf(page) - pageMap() < mapBytes(state().capacity);
}

/** Returns the address where the map ends, which may be in mid-page. */
export function mapEnd(): usize {
  return pageMap() + mapBytes(state().capacity);
}

/** Returns the number of pages that hold a map of `capacity` pages. */
function mapPages(capacity: u32): u32 {
  return pagesFor(mapBytes(capacity));
}

/** Returns the size of a map of `capacity` pages, in bytes. */
function mapBytes(capacity: u32): usize {
  return ((<usize>capacity) << 2) + freeBytes(capacity);
}

/** Moves the map to `address`, enlarged to `capacity` pages. Frees the old one, unless threads may still read it. */
function moveMap(address: usize, capacity: u32): void {
  const s = state();
  const old = pageMap();
  const oldCapacity = s.capacity;
  const copied = (<usize>oldCapacity) << 2;
  const entries = (<usize>capacity) << 2;
  copyMemory(address, old, copied);
  // Even if there are none: what follows the entries is not written yet.
  clearEntries(address + copied, entries - copied);
  moveFree(address + entries, oldCapacity, capacity);
  s.capacity = capacity;
  if (LOCK_FREE_MAP) {
    atomic.store<usize>(STATE, address, MAP);
    return;
  }
  store<usize>(STATE, address, MAP);
  if (!old) return;
  // The first map may share its first page with the program's data.
  const page = pagesFor(old);
  const end = pagesFor(old + mapBytes(oldCapacity));
  // The map may lie where pages were still fresh when the present call began. If that is a calloc, it counts on zeros.
  if (!COMPACT) fillMemory(addressOf(page), 0, addressOf(end - page));
  addPages(page, end);
}
