// The page map and the page allocator: runs of pages that split, coalesce and grow in place.
//
// The map has a byte for each page from address 0 (its kind), so that one load tells what a pointer is, and 16
// bytes for each page of the heap (its Info):
//
//     kinds                                     infos + 16 * start
//     | kind of page 0 | kind of page 1 | ... | | info of page start | info of page start + 1 | ...
//
// The map begins in the odd space after the program's data and moves to fresh memory, twice as large, when the heap
// outgrows it.
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
import { growMemory, grownPages, heapBase, heapEndPage, memoryEndPage } from "./memory";

/** What is known of a page besides its kind; which fields hold depends on the kind. */
@unmanaged
export class Info {
  /** FREE, LARGE: pages in the run. First page of a bin's run: its free slots, a list. */
  pages: usize;
  /** Neighbours in the list of a class of free runs, or of a bin's partial runs: pages. */
  next: u32;
  prev: u32;
  /** Bin: length of the list of free slots; in further pages of a run, minus the distance to the first. */
  free: i32;
}

const KINDS: usize = offsetof<State>("kinds");

/** log2 of the size of Info. */
const INFO_BITS: u32 = 4;

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


@inline
export function infoOf(page: u32): Info {
  return changetype<Info>(state().infos + ((<usize>page) << INFO_BITS));
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

/** Adds a run to the free ones and coalesces it with its neighbours. Returns the length of the result. */
function insert(page: u32, pages: u32): u32 {
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

/** Cuts `pages` off the front of a free run and hands them out. */
function take(page: u32, pages: u32): void {
  const length = <u32>infoOf(page).pages;
  unlink(page, length);
  if (length > pages) insert(page + pages, length - pages);
  handOut(page, pages);
}

function handOut(page: u32, pages: u32): void {
  const s = state();
  s.fresh = max<u32>(s.fresh, page + pages);
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

/** Hands out a run of `pages`; 0 if no free one is long enough. */
export function takeRun(pages: u32): u32 {
  const page = findRun(pages);
  if (page) take(page, pages);
  return page;
}

/** Gives a run back. Its pages' kinds must be NONE. Returns the length of the free run that it is part of now. */
export function freeRun(page: u32, pages: u32): u32 {
  state().used -= pages;
  return insert(page, pages);
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

/** Linear memory grows by wasm pages. */
const PAGES_PER_WASM_PAGE: u32 = 1 << (WASM_PAGE_BITS - PAGE_BITS);

/** A map has room for so many pages more than its heap has, at least. */
const MAP_SLACK: u32 = 4 * PAGES_PER_WASM_PAGE;

/** Bytes of a map for pages below `capacity`. */
function mapSize(capacity: u32): usize {
  return ((capacity + 15) & ~15) + ((capacity - state().start) << INFO_BITS);
}

/** Adds the pages from `page` to `end` to the free ones. */
function addPages(page: u32, end: u32): void {
  if (page < end) insert(page, end - page);
}

/** Makes the map of `size` bytes in fresh memory at `address`, and frees the old one. */
function moveMap(address: usize, size: usize): void {
  const s = state();
  const oldKinds = s.kinds;
  const oldInfos = s.infos;
  const oldCapacity = s.capacity;
  const first = (<usize>s.start) << INFO_BITS;
  s.capacity = <u32>((size - 16 + first) / (1 + offsetof<Info>()));
  s.infos = address + ((s.capacity + 15) & ~15) - first;
  memory.copy(address, oldKinds, oldCapacity);
  if (LOCKED) atomic.store<usize>(STATE, address, KINDS);
  else s.kinds = address;
  if (!oldKinds) return;
  const oldEnd = oldInfos + ((<usize>oldCapacity) << INFO_BITS);
  memory.copy(s.infos + first, oldInfos + first, oldEnd - (oldInfos + first));
  // The first map may share its first page with the program's data. A map's last page is its own to the end.
  const end = pagesFor(oldEnd);
  s.fresh = max<u32>(s.fresh, end);
  addPages(pagesFor(LOCKED ? oldKinds + oldCapacity : oldKinds), end);
}

/** Begins the heap in the space after the program's own data, where that is ours and has room for the map. */
export function startPages(): void {
  const s = state();
  const base = heapBase();
  const end = heapEndPage();
  s.magic = MAGIC;
  s.start = end ? pageOf(base) : memoryEndPage();
  const mapBytes = mapSize(end + MAP_SLACK);
  if (end <= s.start || mapBytes > addressOf(end) - base) return;
  const page = pagesFor(base + mapBytes);
  moveMap(base, addressOf(page) - base);
  s.end = end;
  addPages(page, end);
}

/**
 * Grows linear memory until a run of `pages` fits at its end, using what is free there.
 * Returns false when it can't grow so far.
 */
export function grow(pages: u32): bool {
  const s = state();
  const memoryEnd = memoryEndPage();
  if (pages > LAST_PAGE - memoryEnd) return false;
  let more = pages;
  if (s.end == memoryEnd && kindOf(memoryEnd - 1) == FREE) {
    const room = <u32>infoOf(memoryEnd - 1).pages;
    more = room < pages ? pages - room : 1;
  }
  let mapPages: u32 = 0;
  if (memoryEnd + more + PAGES_PER_WASM_PAGE >= s.capacity) {
    const capacity = memoryEnd + pages;
    mapPages = pagesFor(mapSize(min<u32>(capacity + (capacity >>> 1) + MAP_SLACK, LAST_PAGE + 1)));
    more += mapPages;
  }
  const page = growMemory(more);
  if (!page) return false;
  const end = min<u32>(page + grownPages(more), LAST_PAGE);
  // Another thread's own growth came between: without room in the map this memory is lost.
  if (LOCKED && page > memoryEnd && (mapPages || end >= s.capacity)) return grow(pages);
  s.end = end;
  // At the end of the new memory the map leaves the last run before it room to grow.
  if (mapPages) moveMap(addressOf(end - mapPages), (<usize>mapPages) << PAGE_BITS);
  addPages(page, end - mapPages);
  return true;
}
