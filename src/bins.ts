// Bins: the lists of free slots, refilling a bin, and giving empty pages back.
//
// A bin's free slots hang in one list, linked through their first word: `malloc` takes its first slot and `free`
// puts one there, without a look at the page. Which pages are empty is found out later and paid by slow calls:
// before the heap grows, `collect` moves slots from the bins' lists to lists of their runs, counting them; a run
// with all its slots is free again, and one with some is the next that its bin refills from. A slot is moved at most
// once between a refill or a free and the next, so the work is bounded by that of the calls that went before.
//
// The slots of a new run are linked a few at a time; until then the run counts them as fresh.
//
// A large block that is freed waits in a list too, so that `free` is the same few instructions for every block. The
// same goes for addresses where no block starts: whatever is on the lists of NONE and FREE was a wrong pointer.

import {
  END_BIN,
  BIN_OF,
  FIRST_BIN,
  FREE,
  FREE_MASK,
  FRESH,
  LARGE,
  LISTS,
  NONE,
  PAGE,
  PAGE_BITS,
  PARTIAL,
  SMALL_BINS,
  STATE,
  state,
} from "./config";
import { fillMemory } from "./memory";
import {
  addressOf,
  findRun,
  freeRun,
  grow,
  infoOf,
  kindOf,
  packInfos,
  pageOf,
  push,
  remove,
  setKind,
  startPages,
  take,
} from "./pages";
import { slotSize } from "./size-classes";

/** A closer fit is looked for once in so many pages handed out: this many, and the heap's shifted by FIT_SHARE_BITS. */
const FIT_PAGES: u32 = 128;
const FIT_SHARE_BITS: u32 = 4;

/** Fresh slots are linked so many at a time, as they are needed. */
const CARVE: u32 = 32;

/** First element of the list of a bin, or of freed large blocks. */
@inline
export function listHead(kind: u32): usize {
  return load<usize>(STATE + ((<usize>kind) << 2), LISTS);
}


@inline
export function setListHead(kind: u32, slot: usize): void {
  store<usize>(STATE + ((<usize>kind) << 2), slot, LISTS);
}

/** The bin of a size up to SMALL_MAX; NONE before the first allocation. */
@inline
export function smallBin(size: usize): u32 {
  return load<u8>(STATE + ((size + 3) >>> 2), BIN_OF);
}


@inline
function partialList(bin: u32): usize {
  return STATE + PARTIAL + ((<usize>bin) << 2);
}

/** Pages of a run for slots of `size` bytes: as few as waste a sixteenth of them at most. */
export function runPages(size: u32): u32 {
  let bytes: u32 = 0;
  do {
    bytes += 1 << PAGE_BITS;
  } while (bytes < size || bytes % size > bytes >>> 4);
  return bytes >>> PAGE_BITS;
}

/** Frees the large blocks that wait for it, and traps if a wrong pointer was freed. */
export function flush(): void {
  if (listHead(NONE) | listHead(FREE)) unreachable();
  let block = listHead(LARGE);
  setListHead(LARGE, 0);
  while (block) {
    const next = load<usize>(block);
    const page = pageOf(block);
    if (kindOf(page) != LARGE || block & (PAGE - 1)) unreachable();
    setKind(page, NONE);
    freeRun(page, <u32>infoOf(page).pages);
    block = next;
  }
}

/** Moves the free slots of the bins from `first` on to their runs. */
export function collect(first: u32): void {
  for (let bin = END_BIN - 1; bin >= first; --bin) {
    let slot = listHead(bin);
    if (!slot) continue;
    const size = slotSize(bin);
    const length = runPages(size);
    const slots = (length << PAGE_BITS) / size;
    do {
      const next = load<usize>(slot);
      let page = pageOf(slot);
      let info = infoOf(page);
      if (info.free < 0) {
        page += info.free;
        info = infoOf(page);
      }
      store<usize>(slot, info.pages);
      info.pages = slot;
      if (!(info.free++ & FREE_MASK)) push(partialList(bin), page);
      if (((<u32>info.free) & FREE_MASK) == slots) {
        remove(partialList(bin), page);
        fillMemory(state().kinds + page, <u8>NONE, length);
        freeRun(page, length);
      }
      slot = next;
    } while (slot);
    setListHead(bin, 0);
  }
}

/** A run of `pages`, or 0 when memory is out. */
export function obtainRun(pages: u32): u32 {
  const s = state();
  if (!s.magic) start();
  flush();
  let page = findRun(pages);
  s.sinceFit += pages;
  if (
    page &&
    <u32>infoOf(page).pages > 2 * pages &&
    s.sinceFit > FIT_PAGES + ((s.end - s.start) >>> FIT_SHARE_BITS)
  ) {
    // Rather than break up a long run, look for a closer fit: there are few free slots of medium size.
    s.sinceFit = 0;
    collect(FIRST_BIN + SMALL_BINS);
    page = findRun(pages);
  }
  if (!page) {
    collect(FIRST_BIN);
    page = findRun(pages);
  }
  if (!page && s.end - s.start - s.used >= pages) {
    packInfos();
    page = findRun(pages);
  }
  // Another thread's own growth of linear memory may leave what is free in two pieces.
  while (!page && grow(pages)) page = findRun(pages);
  if (page) take(page, pages);
  return page;
}

function start(): void {
  startPages();
  let words: usize = 0;
  for (let bin = FIRST_BIN; bin < FIRST_BIN + SMALL_BINS; ++bin) {
    const end = <usize>slotSize(bin) / 4 + 1;
    memory.fill(STATE + BIN_OF + words, <u8>bin, end - words);
    words = end;
  }
}

/** Puts free slots on the empty list of a bin. Returns the first, or 0 when memory is out. */
export function refill(bin: u32): usize {
  const size = slotSize(bin);
  const pages = runPages(size);
  const slots = (pages << PAGE_BITS) / size;
  let page = load<u32>(partialList(bin));
  if (!page) {
    page = obtainRun(pages);
    if (!page) return 0;
    for (let i: u32 = 0; i < pages; ++i) {
      setKind(page + i, bin);
      infoOf(page + i).free = -i;
    }
    infoOf(page).pages = 0;
    infoOf(page).free = slots * (1 + FRESH);
    push(partialList(bin), page);
  }
  const info = infoOf(page);
  let fresh = <u32>info.free / FRESH;
  let first = info.pages;
  info.pages = 0;
  if (!first) {
    first = addressOf(page) + <usize>(slots - fresh) * size;
    let slot = first;
    let count = min(fresh, CARVE);
    fresh -= count;
    while (--count) {
      store<usize>(slot, slot + size);
      slot += size;
    }
    store<usize>(slot, 0);
  }
  info.free = fresh * (1 + FRESH);
  if (!fresh) remove(partialList(bin), page);
  setListHead(bin, first);
  return first;
}
