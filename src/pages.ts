// The page map and the page allocator: runs of pages that split, coalesce and grow in place.
//
// A run is some neighbouring pages that serve one thing: a bin's slots, a large block, or nothing, being free. What is
// known of it stands in a Run, which stays where it is as long as the run is in use. The page map has an address for each
// page from address 0, that of its Run, so that one load tells what a pointer is:
//
//     map      | nobody | keeper | a | a | a | b | nobody | b | c | nobody | nobody | ...
//     run                          slots       free           large block
//
// All pages of a run of slots lead to its Run, as do the first and the last of a free run, which its neighbours find
// there when they are freed, and the first of a large block. Pages that Runs lie in lead to `keeper`, and all others to
// `nobody`, which are of kind NONE. That goes for pages before and behind the heap, too, as far as the map reaches.
//
// Runs are carved from free pages; those not in use hang in a list of spares. A few are kept in advance, so that an
// operation that has begun can always have one. Before memory grows though enough of it is free, `pack` gives pages back
// whose Runs are all spare, and moves the map, so that the free memory around them coalesces.
//
// The map begins in the odd space after the program's data and moves to a place twice as large when the heap outgrows it.
//
// Where there are threads, all of this needs the lock but one thing: whoever has a block may look up its Run, and there
// its kind and size.
// - The map's entry for the block's page and these two were written before the heap handed the block out, and they stay
//   while the block lives; but for the size of a large block, which changes when its owner resizes it. Words are apart:
//   writing another page's entry, or what else is in the Run, does not touch them.
// - A Run with blocks stays where it is. `pack` moves those of free runs only, and gives pages back where all are spare.
// - When the map moves, its new address is stored after the copy and loaded by `runOf`, both atomically: who sees the
//   new address sees the copy. Who has just loaded the old address finds the block's entry there, because the memory of
//   old maps is never used again. The map doubles, so all old ones together are no larger than the present one.
// - An older address than that of the block's own time can't be loaded: the block came to this thread after it.

import {
  FIRST_BIN,
  FREE,
  KEEPER,
  HARDENED,
  LARGE,
  LAST_PAGE,
  LOCKED,
  MAP,
  NOBODY,
  NONE,
  PAGE,
  PAGE_BITS,
  RINGS,
  RUN_BITS,
  RUN_CLASSES,
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

/** What is known of a run. In a hardened build some of it means other things: src/hardened.ts. */
@unmanaged
export class Run {
  /** Slots: the first that was freed, a list linked through their first words. LARGE: the block, once it is freed. */
  free: usize;
  /** How many frees it takes until there is an event; see src/bins.ts. */
  left: i32;
  /** The next run with an event. */
  event: usize;
  /** Neighbours in a ring: the bin's runs with freed slots, or the free runs of a length class. `next` is null in none. */
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

/** How many free runs of a class are looked at. */
const FIT_LIMIT: u32 = 8;

/** So many Runs an operation may need. */
const RESERVE: u32 = 8;

/** Pages are made Runs one at a time, and one more for so many that the heap has: log2 of them. */
const RESERVE_SHARE_BITS: u32 = 9;

/** So many are made at first. In a hardened build as many as a small program needs: no block was ever where they are. */
const FIRST_RUNS: u32 = HARDENED ? 128 : RESERVE + 1;

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

export function pagesOf(run: Run): u32 {
  return pagesFor(<usize>run.slots * run.size);
}

/** Pages to go on by from the first page of a run, or from one in none. */
export function lengthOf(run: Run): u32 {
  return max<u32>(pagesOf(run), 1);
}

// The map.

@inline
export function nobody(): Run {
  return changetype<Run>(STATE + NOBODY);
}

/** Stands in the map for pages that are made of Runs. */
@inline
export function keeper(): Run {
  return changetype<Run>(STATE + KEEPER);
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

/** Makes all pages of a run that nobody has yet lead to it. */
export function setRuns(page: u32, pages: u32, run: Run): void {
  const entry = entryOf(page);
  fillRuns(entry, entry + ((<usize>pages) << 2), run);
}

/** Makes all words from `from` to `to` lead to a Run. */
function fillRuns(from: usize, to: usize, run: Run): void {
  for (; from < to; from += sizeof<Run>()) store<Run>(from, run);
}

/** Sets what a run serves and its slots, which lie side by side. */
@inline
export function setKind(run: Run, kind: u32, slots: u32): void {
  store<u32>(changetype<usize>(run), kind | (slots << 16), offsetof<Run>("kind"));
}

// Runs that are not in use.

/** A run whose pages lead nowhere. Needs a spare Run. */
function newRun(start: usize, bytes: u32): Run {
  const s = state();
  const run = changetype<Run>(s.spares);
  s.spares = run.event;
  --s.spareCount;
  run.next = changetype<Run>(0);
  run.start = start;
  run.size = bytes;
  setKind(run, NONE, 1);
  return run;
}

/** Has a Run no longer in use. Its start is 0, where no run lies. */
function dropRun(run: Run): void {
  const s = state();
  run.start = 0;
  run.event = s.spares;
  s.spares = changetype<usize>(run);
  ++s.spareCount;
}

/** Makes Runs of the memory from `from`, at a multiple of their size, to `to`. */
function carveRuns(from: usize, to: usize): void {
  setRuns(pageOf(from), pageOf(to) - pageOf(from), keeper());
  for (; from + (1 << RUN_BITS) <= to; from += 1 << RUN_BITS) dropRun(changetype<Run>(from));
  state().packed = state().spareCount;
}

/** Sees to it that there are RESERVE spare Runs. Returns whether there are. */
export function reserve(): bool {
  const s = state();
  while (s.spareCount < RESERVE) {
    let pages = 1 + ((s.end - s.start) >>> RESERVE_SHARE_BITS);
    let run = findRun(pages);
    if (!run) {
      pages = 1;
      run = findRun(pages);
    }
    if (run) {
      const start = run.start;
      const bytes = pages << PAGE_BITS;
      shorten(run, bytes);
      carveRuns(start, start + bytes);
    } else if (!grow(1)) return false;
  }
  return true;
}

/** Lists the spare Runs by address, and gives pages back whose Runs are all spare. Returns whether there were any. */
function sortSpares(): bool {
  const s = state();
  let link = STATE + offsetof<State>("spares");
  let gone: usize = 0;
  // Each page that goes may need a Run, being a free run.
  let needed = RESERVE;
  s.spareCount = 0;
  let next = pageOf(s.firstRun);
  while (next < s.end) {
    const page = next;
    next += lengthOf(runAt(page));
    if (runAt(page) != keeper()) continue;
    const start = link;
    const before = s.spareCount;
    for (let at = max(addressOf(page), s.firstRun); at < addressOf(page + 1); at += 1 << RUN_BITS) {
      if (changetype<Run>(at).start) continue;
      store<usize>(link, at);
      link = at + offsetof<Run>("event");
      ++s.spareCount;
    }
    if (before >= needed && s.spareCount - before == PAGE >> RUN_BITS) {
      changetype<Run>(addressOf(page)).event = gone;
      gone = addressOf(page);
      ++needed;
      link = start;
      s.spareCount = before;
    }
  }
  store<usize>(link, 0);
  const any = gone != 0;
  while (gone) {
    const page = gone;
    gone = changetype<Run>(page).event;
    fillMemory(page, 0, PAGE);
    setRun(page, nobody());
    addPages(pageOf(page), pageOf(page) + 1);
  }
  return any;
}

// Rings of runs. Each has a place that is none, but whose `next` and `prev` are the first and the last of them.

/** Makes rings of no runs out of places that are `step` bytes apart. */
export function startRings(from: usize, to: usize, step: usize): void {
  for (; from < to; from += step) {
    const ring = changetype<Run>(from);
    ring.next = ring;
    ring.prev = ring;
  }
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

// Free runs.

/** The class of a run: its length up to 8 pages, then four to a doubling; the last takes all from 112 Ki pages on. */
@inline
export function runClass(pages: u32): u32 {
  const shift = 29 - clz<u32>(pages | 4);
  return min<u32>((pages >>> shift) + (shift << 2), RUN_CLASSES - 1);
}


@inline
function ringOf(c: u32): Run {
  return changetype<Run>(STATE + RINGS - offsetof<Run>("next") + ((<usize>c) << 3));
}

/** Adds a free run to its class. */
function link(run: Run): void {
  const c = runClass(run.size >>> PAGE_BITS);
  addBefore(ringOf(c).next, run);
  state().runBits |= (<u64>1) << c;
}

function unlink(run: Run): void {
  const next = run.next;
  const prev = run.prev;
  next.prev = prev;
  prev.next = next;
  // What is left of the ring is its own place.
  if (next == prev)
    state().runBits ^= (<u64>1) << ((changetype<usize>(next) - changetype<usize>(ringOf(0))) >>> 3);
}

/** Takes a free neighbour into a run. Its pages must lead nowhere by then. */
function absorb(run: Run, neighbour: Run): void {
  unlink(neighbour);
  run.size += neighbour.size;
  dropRun(neighbour);
}

/** Makes a run free and coalesces it with its neighbours. None of its pages may lead to it. */
function insert(run: Run): void {
  setKind(run, FREE, 1);
  run.left = 1;
  let first = entryAt(run.start);
  const next = entriesBehind(first, run);
  const behind = load<Run>(next);
  if (behind.kind == FREE) {
    store<Run>(next, nobody());
    absorb(run, behind);
  }
  const before = load<Run>(first - ENTRY);
  if (before.kind == FREE) {
    store<Run>(first - ENTRY, nobody());
    first -= before.size >>> ENTRY_SHIFT;
    run.start = before.start;
    absorb(run, before);
  }
  store<Run>(first, run);
  store<Run>(entriesBehind(first, run) - ENTRY, run);
  link(run);
}

/** Takes the first `bytes` away from a free run. */
function shorten(run: Run, bytes: u32): void {
  const s = state();
  unlink(run);
  let entry = entryAt(run.start);
  store<Run>(entry, nobody());
  run.start += bytes;
  run.size -= bytes;
  entry += bytes >>> ENTRY_SHIFT;
  s.fresh = max<u32>(s.fresh, pageOf(run.start));
  if (run.size) {
    store<Run>(entry, run);
    link(run);
  } else {
    store<Run>(entry - ENTRY, nobody());
    dropRun(run);
  }
}

/** Counts pages that are handed out. */
function use(pages: u32): void {
  const s = state();
  s.used += pages;
  s.peak = max<u32>(s.peak, s.used);
}

/** Hands out the first `pages` of a free run, as a run whose pages lead nowhere. Needs a spare Run. */
export function take(run: Run, pages: u32): Run {
  use(pages);
  const start = run.start;
  const bytes = pages << PAGE_BITS;
  shorten(run, bytes);
  return newRun(start, bytes);
}

/** A free run of at least `pages`: of the first FIT_LIMIT of a class the one at the lowest address; null if none is long enough. */
export function findRun(pages: u32): Run {
  const bytes = pages << PAGE_BITS;
  let bits = state().runBits & (~(<u64>0) << runClass(pages));
  let best = changetype<Run>(0);
  while (bits && !best) {
    const ring = ringOf(<u32>ctz<u64>(bits));
    let limit = FIT_LIMIT;
    let run = ring.next;
    do {
      if (run.size >= bytes && (!best || run.start < best.start)) best = run;
      run = run.next;
    } while (run != ring && --limit);
    bits &= bits - 1;
  }
  return best;
}

/** Gives a run back. */
export function freeRun(run: Run): void {
  const pages = pagesOf(run);
  state().used -= pages;
  if (run.kind == LARGE) setRun(run.start, nobody());
  else if (run.kind >= FIRST_BIN) setRuns(pageOf(run.start), pages, nobody());
  run.size = pages << PAGE_BITS;
  insert(run);
}

/** Cuts a run that is no bin's after its first `pages`. Returns the rest, whose pages lead nowhere. */
export function split(run: Run, pages: u32): Run {
  const bytes = pages << PAGE_BITS;
  const rest = newRun(run.start + bytes, run.size - bytes);
  run.size = bytes;
  return rest;
}

/** Frees the pages after the first `pages` of a run that is no bin's. Leaves them where memory is out of Runs. */
export function shrinkRun(run: Run, pages: u32): void {
  if (run.size > pages << PAGE_BITS && reserve()) freeRun(split(run, pages));
}

/** Frees what lies before a multiple of `alignment` pages, and what is more than `pages`. Returns the run between. */
export function trimRun(run: Run, alignment: u32, pages: u32): Run {
  const before = -pageOf(run.start) & (alignment - 1);
  if (before) {
    const rest = split(run, before);
    freeRun(run);
    run = rest;
  }
  shrinkRun(run, pages);
  return run;
}

/** Lengthens a run that is no bin's to `pages` where it lies. Returns whether there was room. */
export function extendRun(run: Run, pages: u32): bool {
  const s = state();
  const next = pageOf(run.start + run.size);
  const more = pages - (run.size >>> PAGE_BITS);
  if (!reserve()) return false;
  if (roomAt(next) < more) {
    // The heap's last run makes room by growing, but not while the block could move to free memory.
    if (next + roomAt(next) != s.end || s.end != memoryEndPage() || findRun(pages) || !grow(more)) {
      return false;
    }
    if (roomAt(next) < more) return false;
  }
  use(more);
  shorten(runAt(next), more << PAGE_BITS);
  run.size = pages << PAGE_BITS;
  return true;
}

/** Pages of the free run that begins or ends with a page. */
function roomAt(page: u32): u32 {
  const run = runAt(page);
  return run.kind == FREE ? run.size >>> PAGE_BITS : 0;
}

// Growing.

/** Where what is ours ends of the memory that `growMemory(pages)` took from `page` on. */
function grownEnd(page: u32, pages: u32): u32 {
  return min<u32>(page + grownPages(pages), LAST_PAGE);
}

/** Makes the first map, and a free run of what lies behind it. Returns whether there was memory. */
export function startPages(): bool {
  const s = state();
  nobody().left = 1;
  keeper().left = 1;
  startRings(changetype<usize>(ringOf(0)), changetype<usize>(ringOf(RUN_CLASSES)), 8);
  let base = heapBase();
  let end = heapEndPage();
  // With room for the pages of the map itself.
  let capacity = max(end, memoryEndPage()) + SLACK;
  capacity += capacity / MAP_PAGE;
  // In pages, which do not wrap at 4 GiB.
  const bytes = ((<usize>capacity) << 2) + (FIRST_RUNS << RUN_BITS);
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
  s.firstRun = (base + ((<usize>capacity) << 2) + (1 << RUN_BITS) - 1) & -(1 << RUN_BITS);
  carveRuns(s.firstRun, addressOf(own));
  addPages(own, end);
  return true;
}

/**
 * Grows linear memory until a run of `pages` fits at its end, using what is free there. Needs a spare Run or two.
 * Returns false when it can't grow so far.
 */
export function grow(pages: u32): bool {
  const s = state();
  const memoryEnd = memoryEndPage();
  let more = pages;
  if (s.end == memoryEnd) {
    const room = roomAt(memoryEnd - 1);
    more = room < pages ? pages - room : 1;
  }
  if (more > LAST_PAGE - memoryEnd) return false;
  if (memoryEnd + grownPages(more) >= s.capacity) return enlargeMap(memoryEnd + more) && grow(pages);
  const page = growMemory(more);
  if (!page) return false;
  const end = grownEnd(page, more);
  if (LOCKED && end >= s.capacity) return describe(page, end);
  s.end = end;
  addPages(page, end);
  return true;
}

/**
 * Adds fresh pages that lie further on than the map reaches, because another thread's own growth came between. Returns false
 * when memory is out for a map that does: they are lost.
 */
function describe(page: u32, end: u32): bool {
  const s = state();
  if (!enlargeMap(end)) return false;
  s.end = max(s.end, end);
  addPages(page, end);
  return true;
}

/** Moves the map to where there is room for pages up to `end` and as many again. Returns false when memory is out. */
function enlargeMap(end: u32): bool {
  const s = state();
  // Whole pages.
  const capacity = min<u32>(((end + SLACK) << 1) | (MAP_PAGE - 1), LAST_PAGE | (MAP_PAGE - 1)) + 1;
  const pages = capacity / MAP_PAGE;
  // Better in the midst of the heap than at its end, where it would be in the way of blocks that grow.
  const run = findRun(pages);
  if (run) {
    moveMapTo(run, capacity);
    return true;
  }
  const page = growMemory(pages);
  // At the very end its own end would wrap to 0. What lies there no map could describe.
  if (page - 1 >= LAST_PAGE - pages) return false;
  const newEnd = grownEnd(page, pages);
  if (LOCKED && newEnd >= capacity) return describe(page, newEnd);
  s.end = newEnd;
  moveMap(addressOf(page), capacity);
  addPages(page + pages, newEnd);
  return true;
}

/** Moves what the heap has for its own use from between free pages, so that these coalesce. */
export function pack(): void {
  const s = state();
  // With fewer of them no page of Runs can go: not worth a walk over the heap.
  if (s.spareCount >= RESERVE + (PAGE >>> RUN_BITS)) {
    do {
      sortSpares();
      moveFreeRuns();
    } while (sortSpares());
  }
  s.packed = s.spareCount;
  // Where there are threads, a map's place stays in use. The first map is none of whole pages.
  if (LOCKED || s.capacity & (MAP_PAGE - 1)) return;
  const map = pageOf(pageMap());
  const pages = s.capacity / MAP_PAGE;
  if (runAt(map - 1).kind != FREE && runAt(map + pages).kind != FREE) return;
  for (let page = s.start; page < map;) {
    const run = runAt(page);
    page += lengthOf(run);
    if (run.kind != FREE || pagesOf(run) < pages) continue;
    moveMapTo(run, s.capacity);
    return;
  }
}

/** Gives free runs other Runs at lower addresses. Those of blocks may be known to other threads, but not these. */
function moveFreeRuns(): void {
  const s = state();
  for (let page = s.start; page < s.end;) {
    const run = runAt(page);
    page += lengthOf(run);
    if (run.kind != FREE || !s.spares || s.spares > changetype<usize>(run)) continue;
    unlink(run);
    insert(newRun(run.start, run.size));
    run.start = 0;
  }
}

/** Makes a map of `capacity` pages at the front of a free run. */
function moveMapTo(run: Run, capacity: u32): void {
  const start = run.start;
  shorten(run, (capacity / MAP_PAGE) << PAGE_BITS);
  moveMap(start, capacity);
}

/** Makes the pages from `page` to `end` a free run. */
function addPages(page: u32, end: u32): void {
  if (page < end) insert(newRun(addressOf(page), (end - page) << PAGE_BITS));
}

/** Makes a map of `capacity` pages at `address`, and frees the old one. */
function moveMap(address: usize, capacity: u32): void {
  const s = state();
  const old = pageMap();
  const oldEnd = old + ((<usize>s.capacity) << 2);
  copyMemory(address, old, oldEnd - old);
  fillRuns(address + (oldEnd - old), address + ((<usize>capacity) << 2), nobody());
  s.capacity = capacity;
  if (LOCKED) {
    atomic.store<usize>(STATE, address, MAP);
    return;
  }
  store<usize>(STATE, address, MAP);
  // The first map shares its last page with Runs, and may share its first with the program's data.
  const page = pagesFor(old);
  const end = pageOf(oldEnd);
  if (page >= end) return;
  // The call that this growth is for may be calloc, and count on fresh pages.
  memory.fill(addressOf(page), 0, addressOf(end - page));
  addPages(page, end);
}
