// Bins: the lists of free slots, refilling a bin, and giving empty pages back.
//
// A bin's free slots hang in one list, linked through their first word: `malloc` takes its first slot and `free`
// puts one there, without a look at the page. Which pages are empty is found out later and paid by slow calls:
// before the heap grows, `collect` moves slots from the bins' lists to lists of their runs, counting them; a run
// with all its slots is free again, and one with some is the next that its bin refills from. A slot is moved at most
// once between a refill or a free and the next, so the work is bounded by that of the calls that went before.
//
// A large block that is freed waits in a list too, so that `free` is the same few instructions for every block. The
// same goes for addresses where no block starts: whatever is on the lists of NONE and FREE was a wrong pointer.

import {
  BINS,
  BIN_OF,
  FIRST_BIN,
  FREE,
  LARGE,
  LISTS,
  NONE,
  PAGE_BITS,
  PARTIAL,
  SMALL_MAX,
  STATE,
  state,
} from "./config";
import {
  addressOf,
  freeRun,
  grow,
  infoOf,
  kindOf,
  pageOf,
  push,
  remove,
  setKind,
  startPages,
  takeRun,
} from "./pages";
import { binOfSize, slotSize } from "./size-classes";

/** Bytes of free slots that one call collects before it lets the heap grow instead. */
const COLLECT_BYTES: u32 = 1 << 20;

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
    if (kindOf(page) != LARGE) unreachable();
    setKind(page, NONE);
    freeRun(page, <u32>infoOf(page).pages);
    block = next;
  }
}

/**
 * Moves free slots to their runs, bin after bin from where the last call stopped, until `bytes` of them are moved or
 * a free run of `pages` results.
 */
export function collect(pages: u32, bytes: u32): void {
  const s = state();
  for (let i: u32 = 0; i < BINS; ++i) {
    const bin = s.cursor + FIRST_BIN;
    const size = slotSize(bin);
    const length = runPages(size);
    const slots = (length << PAGE_BITS) / size;
    let slot = listHead(bin);
    while (slot && bytes >= size) {
      const next = load<usize>(slot);
      let page = pageOf(slot);
      page += min<i32>(infoOf(page).free, 0);
      const info = infoOf(page);
      store<usize>(slot, info.pages);
      info.pages = slot;
      if (!info.free++) push(partialList(bin), page);
      if (info.free == slots) {
        remove(partialList(bin), page);
        memory.fill(s.kinds + page, <u8>NONE, length);
        if (freeRun(page, length) >= pages) bytes = 0;
      }
      bytes -= min(bytes, size);
      slot = next;
    }
    setListHead(bin, slot);
    if (bytes < size) return;
    s.cursor = bin - FIRST_BIN + 1 < BINS ? bin - FIRST_BIN + 1 : 0;
  }
}

/** A run of `pages`, or 0 when memory is out. */
export function obtainRun(pages: u32): u32 {
  if (!state().magic) start();
  flush();
  let page = takeRun(pages);
  if (page) return page;
  collect(pages, COLLECT_BYTES);
  page = takeRun(pages);
  if (page) return page;
  // Another thread's own growth of linear memory may leave what is free in two pieces.
  while (grow(pages)) {
    page = takeRun(pages);
    if (page) return page;
  }
  collect(pages, u32.MAX_VALUE);
  return takeRun(pages);
}

function start(): void {
  startPages();
  for (let words: usize = 0; words <= SMALL_MAX / 4; ++words) {
    store<u8>(STATE + words, binOfSize(words << 2), BIN_OF);
  }
}

/** Puts free slots on the empty list of a bin. Returns the first, or 0 when memory is out. */
export function refill(bin: u32): usize {
  let page = load<u32>(partialList(bin));
  if (page) {
    remove(partialList(bin), page);
    const info = infoOf(page);
    const slot = info.pages;
    info.pages = 0;
    info.free = 0;
    setListHead(bin, slot);
    return slot;
  }
  const size = slotSize(bin);
  const pages = runPages(size);
  page = obtainRun(pages);
  if (!page) return 0;
  for (let i: u32 = 0; i < pages; ++i) {
    setKind(page + i, bin);
    infoOf(page + i).free = -i;
  }
  infoOf(page).pages = 0;
  const first = addressOf(page);
  let slot = first;
  for (let i = (pages << PAGE_BITS) / size - 1; i; --i) {
    store<usize>(slot, slot + size);
    slot += size;
  }
  store<usize>(slot, 0);
  setListHead(bin, first);
  return first;
}
