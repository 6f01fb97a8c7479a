// The page map and the page allocator: runs of pages that split, coalesce and grow in place.
//
// The map has a byte for each page from address 0 (its kind), so that one load tells what a pointer is. Before it, and
// growing downwards, lies a directory: an address for each region of 256 pages, where the 16 bytes for each of its
// pages (its Info) are. A region that the heap does not reach has none.
//
//     | ... | infos of region 1 | infos of region 0 | kind of page 0 | kind of page 1 | ...
//                                                   ^ kinds
//
// A region's infos move only to let the free memory around them coalesce. The map begins in the odd space after the program's data and moves to a larger place when the
// heap outgrows it; at a byte to a page that is seldom.
//
// A free run carries its length at both ends, and kind FREE there: a run that is freed finds its neighbours'
// lengths one page away. Free runs hang in lists by length class, and a bit set tells which lists have members.
//
// Where there are threads, all of this needs the lock but one thing: whoever has a block may look up its page's kind.
// - The kind of a block's page was written before the block was handed out under the lock, and does not change while
//   the block lives. Bytes are apart: writing another page's kind does not touch it.
// - When the map moves, its new address is stored after the copy and loaded by `kindOf`, both atomically: who sees the
//   new address sees the copy. Who has just loaded the old address finds the block's kind there, because the memory of
//   old kinds is never used again. The map grows by half, so all old ones together are twice the present one at most.
// - An older address than that of the block's own time can't be loaded: the block came to this thread after it.

import {
  FREE,
  LARGE,
  LAST_PAGE,
  LOCKED,
  MAGIC,
  NONE,
  PAGE,
  PAGE_BITS,
  RUNS,
  RUN_LISTS,
  STATE,
  State,
  WASM_PAGE_BITS,
  state,
} from "./config";
import {
  copyMemory,
  fillMemory,
  growMemory,
  grownPages,
  heapBase,
  heapEndPage,
  memoryEndPage,
} from "./memory";

/** What is known of a page besides its kind; which fields hold depends on the kind. */
@unmanaged
export class Info {
  /** FREE, LARGE: pages in the run. First page of a bin's run: its free slots, a list. */
  pages: usize;
  /** Neighbours in the list of a class of free runs, or of a bin's partial runs: pages. */
  next: u32;
  prev: u32;
  /**
   * Bin: how many slots are not on the bin's list, in the run's own or fresh, and FRESH times those that are fresh. In
   * further pages of a run, minus the distance to the first.
   */
  free: i32;
}

const KINDS: usize = offsetof<State>("kinds");

/** log2 of the size of Info. */
const INFO_BITS: u32 = 4;

/** log2 of the pages of a region, and how many pages its infos take. */
export const REGION_BITS: u32 = 8;
const INFO_PAGES: u32 = 1 << (REGION_BITS + INFO_BITS - PAGE_BITS);

/** A region's share of the map: its kinds and its entry in the directory, in bytes. */
const REGION_SIZE: usize = (1 << REGION_BITS) + sizeof<usize>();

/** How many runs of a class are looked at for the best fit. */
const FIT_LIMIT: u32 = 32;


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
export function kindOf(page: u32): u32 {
  const kinds = LOCKED ? atomic.load<usize>(STATE, KINDS) : state().kinds;
  return load<u8>(kinds + page);
}


@inline
export function setKind(page: u32, kind: u32): void {
  store<u8>(state().kinds + page, kind);
}

/** Where the address of a region's infos stands. */
@inline
function directoryEntry(region: u32): usize {
  return state().kinds - sizeof<usize>() - ((<usize>region) << 2);
}

export function infoOf(page: u32): Info {
  const infos = load<usize>(directoryEntry(page >>> REGION_BITS));
  return changetype<Info>(infos + ((<usize>(page & ((1 << REGION_BITS) - 1))) << INFO_BITS));
}

// Lists of pages: doubly linked through their Info, the first page in a cell of the state.

export function push(list: usize, page: u32): void {
  const info = infoOf(page);
  const first = load<u32>(list);
  info.prev = 0;
  info.next = first;
  if (first) infoOf(first).prev = page;
  store<u32>(list, page);
}

export function remove(list: usize, page: u32): void {
  const info = infoOf(page);
  const next = info.next;
  const prev = info.prev;
  if (next) infoOf(next).prev = prev;
  if (prev) infoOf(prev).next = next;
  else store<u32>(list, next);
}

// Free runs.

/** The class of a run: its length up to 8 pages, then four to a doubling; the last takes all from 64 Ki pages on. */
export function runClass(pages: u32): u32 {
  const shift = 29 - clz<u32>(pages | 4);
  return min<u32>((pages >>> shift) + (shift << 2), RUN_LISTS - 1);
}


@inline
function runList(c: u32): usize {
  return STATE + RUNS + ((<usize>c) << 2);
}

function unlink(page: u32, pages: u32): void {
  const c = runClass(pages);
  remove(runList(c), page);
  if (!load<u32>(runList(c))) state().runBits &= ~((<u64>1) << c);
  setKind(page, NONE);
  setKind(page + pages - 1, NONE);
}

/** Adds a run to the free ones and coalesces it with its neighbours. */
function insert(page: u32, pages: u32): void {
  const next = page + pages;
  if (kindOf(next) == FREE) {
    const more = <u32>infoOf(next).pages;
    unlink(next, more);
    pages += more;
  }
  if (kindOf(page - 1) == FREE) {
    const more = <u32>infoOf(page - 1).pages;
    page -= more;
    unlink(page, more);
    pages += more;
  }
  const last = page + pages - 1;
  setKind(page, FREE);
  setKind(last, FREE);
  infoOf(page).pages = pages;
  infoOf(last).pages = pages;
  const c = runClass(pages);
  push(runList(c), page);
  state().runBits |= (<u64>1) << c;
  return pages;
}

/** Cuts `pages` off the front of a free run. */
function cut(page: u32, pages: u32): void {
  const s = state();
  const length = <u32>infoOf(page).pages;
  unlink(page, length);
  s.fresh = max<u32>(s.fresh, page + pages);
  if (length > pages) insert(page + pages, length - pages);
}

/** Cuts `pages` off the front of a free run and hands them out. */
export function take(page: u32, pages: u32): void {
  const s = state();
  cut(page, pages);
  s.used += pages;
  s.peak = max<u32>(s.peak, s.used);
}

/** A free run of at least `pages`: the best fit within the first FIT_LIMIT of a class; 0 if none is long enough. */
export function findRun(pages: u32): u32 {
  let bits = state().runBits & (~(<u64>0) << runClass(pages));
  while (bits) {
    let best: u32 = 0;
    let bestLength: u32 = -1;
    let limit = FIT_LIMIT;
    let page = load<u32>(runList(<u32>ctz<u64>(bits)));
    while (page && limit) {
      const length = <u32>infoOf(page).pages;
      if (length >= pages && length < bestLength) {
        best = page;
        bestLength = length;
        if (length == pages) break;
      }
      page = infoOf(page).next;
      --limit;
    }
    if (best) return best;
    bits &= bits - 1;
  }
  return 0;
}

/** Gives a run back. Its pages' kinds must be NONE. */
export function freeRun(page: u32, pages: u32): void {
  state().used -= pages;
  insert(page, pages);
}

/** Frees the pages of a run of `from` after its first `to`. */
export function shrinkRun(page: u32, from: u32, to: u32): void {
  if (from > to) freeRun(page + to, from - to);
}

/** Lengthens a run of `from` pages to `to` where it lies. Returns whether there was room. */
export function extendRun(page: u32, from: u32, to: u32): bool {
  const next = page + from;
  const more = to - from;
  if (roomAt(next) < more) {
    // The heap's last run makes room by growing, but not while the block could move to free memory.
    const s = state();
    if (next + roomAt(next) != s.end || s.end != memoryEndPage() || findRun(to) || !grow(more)) return false;
    if (roomAt(next) < more) return false;
  }
  take(next, more);
  return true;
}

function roomAt(page: u32): u32 {
  return kindOf(page) == FREE ? <u32>infoOf(page).pages : 0;
}

// Growing.

/** What growing may add to what was asked for, in pages: a wasm page begun, and room for the map and infos. */
const SLACK: u32 = 4 << (WASM_PAGE_BITS - PAGE_BITS);

/** Bytes of a map for pages up to `capacity` and a few more. */
function mapSize(capacity: u32): usize {
  return (<usize>(capacity >>> REGION_BITS) + 1) * REGION_SIZE;
}

/** Makes the map of `size` bytes at `address`, and frees the old one. */
function moveMap(address: usize, size: usize): void {
  const s = state();
  const oldKinds = s.kinds;
  const oldRegions = (<usize>s.capacity) >>> REGION_BITS;
  const regions = size / REGION_SIZE;
  const kinds = address + regions * sizeof<usize>();
  fillMemory(address, 0, size);
  const start = oldKinds - oldRegions * sizeof<usize>();
  copyMemory(kinds - (oldKinds - start), start, oldRegions * REGION_SIZE);
  s.capacity = (<u32>regions) << REGION_BITS;
  if (LOCKED) {
    atomic.store<usize>(STATE, kinds, KINDS);
    return;
  }
  s.kinds = kinds;
  // The first map may share a page with the program's data. All maps take whole pages at the end.
  const end = pagesFor(oldKinds + (oldRegions << REGION_BITS));
  const page = pagesFor(start);
  if (page >= end) return;
  // The call that this growth is for may be calloc, and count on fresh pages.
  fillMemory(addressOf(page), 0, addressOf(end - page));
  insert(page, end - page);
}

/** Adds the pages from `page` to `end` to the free ones. */
function addPages(page: u32, end: u32): void {
  if (page < end) insert(page, end - page);
}

/** Pages for the heap's own use: from a free run, or else the last before `end`. */
function ownPages(pages: u32, end: u32): u32 {
  const page = findRun(pages);
  if (!page) return end - pages;
  cut(page, pages);
  return page;
}

/** Begins the heap in the space after the program's own data, where that is ours and has room for the map and infos. */
export function startPages(): void {
  const s = state();
  const base = heapBase();
  const end = heapEndPage();
  s.magic = MAGIC;
  s.start = end ? pageOf(base) : memoryEndPage();
  // In pages, which do not wrap at 4 GiB.
  const infos = pageOf(base) + pagesFor((base & (PAGE - 1)) + mapSize(end + SLACK));
  // From the map's region on: its pages are free when it moves.
  let region = s.start >>> REGION_BITS;
  let page = infos + ((end >>> REGION_BITS) - region + 1) * INFO_PAGES;
  if (<i32>(end - page) < 0) return;
  moveMap(base, addressOf(infos) - base);
  s.end = end;
  s.fresh = page;
  for (let at = infos; at < page; at += INFO_PAGES) store<usize>(directoryEntry(region++), addressOf(at));
  addPages(page, end);
}

/**
 * Grows linear memory until a run of `pages` fits at its end, using what is free there.
 * Returns false when it can't grow so far.
 */
export function grow(pages: u32): bool {
  const s = state();
  const memoryEnd = memoryEndPage();
  let more = pages;
  if (s.end == memoryEnd && kindOf(memoryEnd - 1) == FREE) {
    const room = <u32>infoOf(memoryEnd - 1).pages;
    more = room < pages ? pages - room : 1;
  }
  // The map takes a page for each 1,000 that it describes four times over, infos one for each 256.
  const wanted = memoryEnd + more;
  const last = min<u32>(wanted + (wanted >>> 7) + SLACK, LAST_PAGE);
  let mapPages: u32 = 0;
  if (last >= s.capacity) {
    // Four times as large: old maps of threaded builds stay, and a map is small.
    mapPages = pagesFor(mapSize(min<u32>(last << 2, LAST_PAGE)));
    more += mapPages;
  }
  // What is added for infos may reach further regions.
  let region = memoryEnd >>> REGION_BITS;
  while (region <= min<u32>(memoryEnd + grownPages(more) - 1, LAST_PAGE - 1) >>> REGION_BITS) {
    const regions = hasInfos(region) ? 1 : infoBatch(region);
    if (!hasInfos(region)) more += regions * INFO_PAGES;
    region += regions;
  }
  if (more > LAST_PAGE - memoryEnd) return false;
  const page = growMemory(more);
  if (!page) return false;
  let end = min<u32>(page + grownPages(more), LAST_PAGE);
  // Another thread's own growth came between: if the map or infos do not reach so far, this memory is lost.
  const known = !mapPages && end <= s.capacity && hasInfos((end - 1) >>> REGION_BITS);
  if (LOCKED && page > memoryEnd && !known) return grow(pages);
  s.end = end;
  // What the heap needs for itself comes from its free pages, or from the end, where it leaves the last run room.
  if (mapPages) {
    const at = ownPages(mapPages, end);
    end -= at + mapPages == end ? mapPages : 0;
    moveMap(addressOf(at), (<usize>mapPages) << PAGE_BITS);
  }
  for (let region = page >>> REGION_BITS; region <= (s.end - 1) >>> REGION_BITS; ++region) {
    if (hasInfos(region)) continue;
    const regions = min<u32>(infoBatch(region), (s.capacity >>> REGION_BITS) - region);
    const pages = regions * INFO_PAGES;
    const at = ownPages(pages, end);
    end -= at + pages == end ? pages : 0;
    for (let i: u32 = 0; i < regions; ++i) {
      store<usize>(directoryEntry(region + i), addressOf(at + i * INFO_PAGES));
    }
  }
  addPages(page, end);
  return true;
}

/** Moves infos and the map that lie between free pages to the first free ones, so that the memory around them coalesces. */
export function packInfos(): void {
  const s = state();
  let hole = s.start;
  for (let region = hole >>> REGION_BITS; region < s.capacity >>> REGION_BITS; ++region) {
    if (!hasInfos(region)) continue;
    const entry = directoryEntry(region);
    const at = pageOf(load<usize>(entry));
    hole = findHole(hole, at, INFO_PAGES);
    if (hole >= at) continue;
    cut(hole, INFO_PAGES);
    copyMemory(addressOf(hole), addressOf(at), INFO_PAGES << PAGE_BITS);
    store<usize>(entry, addressOf(hole));
    fillMemory(addressOf(at), 0, INFO_PAGES << PAGE_BITS);
    insert(at, INFO_PAGES);
    hole += INFO_PAGES;
  }
  // Where there are threads, a map's place stays in use.
  if (LOCKED) return;
  const map = pageOf(directoryEntry((s.capacity >>> REGION_BITS) - 1));
  const pages = pagesFor(mapSize(s.capacity - 1));
  hole = findHole(s.start, map, pages);
  if (hole >= map) return;
  cut(hole, pages);
  moveMap(addressOf(hole), (<usize>pages) << PAGE_BITS);
}

/** The first free run of `pages` or more from the page `hole` on; `end` or more if there is none before it. */
function findHole(hole: u32, end: u32, pages: u32): u32 {
  // FREE and LARGE run on, and what else there is goes page by page.
  while (hole < end && (kindOf(hole) != FREE || <u32>infoOf(hole).pages < pages)) {
    hole += kindOf(hole) == FREE || kindOf(hole) == LARGE ? <u32>infoOf(hole).pages : 1;
  }
  return hole;
}

/** The regions from this one on that get infos together, so that they do not lie between free pages everywhere. */
function infoBatch(region: u32): u32 {
  return 1 + (region >>> 1);
}

/** Whether the heap reaches a region. */
export function hasInfos(region: u32): bool {
  return region < state().capacity >>> REGION_BITS && load<usize>(directoryEntry(region)) != 0;
}
