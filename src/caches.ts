// Thread caches: lists of free slots, by bin, that one thread takes from and gives to without a lock.
//
// Each wasm thread is an instance of its own, so a mutable wasm global is thread-local: `cache` tells where the thread's
// cache lies, as the distance from NO_CACHE, an empty one that stands for none and needs no test on the fast path.
//
//     cache:  | NONE | FREE | LARGE | first bin | second bin | ...      16 bytes each: head, credit, limit, -
//
// `malloc` takes the head of a list. `free` puts a slot there, whichever thread got it, and pays with one of the bin's
// credits; it never looks at how long the list is. When the credits are spent, the list is measured, and what is more
// than half the limit goes back to the locked heap in one piece. Credits are such that a list has never more slots than
// its limit: after a measurement the limit less the length, after a refill the limit less what was brought. So memory
// stays bounded when one thread allocates and others free, and the fast paths count nothing twice.
//
// NONE, FREE and LARGE never have credit, nor has any bin of NO_CACHE: the slow path of `free` takes what is not for a
// list, and what has no cache to go to.
//
// Orderings. A cache belongs to one thread at a time. It changes hands through the list of spare ones under the lock, so
// its next owner sees all that the last one wrote. The same goes for the slots that pass through the heap. A slot that
// another thread frees was given to it by the program, and that ordered the two threads (C17 5.1.2.4): what `malloc`
// read from the slot comes before what `free` writes there. wasi-tests/model/caches.pml checks the hand-over.

import {
  CACHES,
  CACHE_BIN_BITS,
  CACHE_SIZE,
  END_BIN,
  FIRST_BIN,
  LARGE,
  NO_CACHE,
  STATE,
  state,
} from "./config";
import { listHead, obtainRun, refill, setListHead } from "./bins";
import { lock, unlock } from "./lock";
import { addressOf, pagesFor } from "./pages";
import { atThreadEnd, cores, createKey, endIsKnown } from "./pthread";
import { slotSize } from "./size-classes";

/** Caches to a core: threads that wait for something else keep theirs. */
const CACHES_PER_CORE: u32 = 4;
const MAX_CORES: u32 = 256;

/** What a list may hold: bytes and slots. */
const LIST_BYTES: u32 = 16384;
const LIST_SLOTS: u32 = 256;
/** The least that a list may hold, and what it holds at first: the limit doubles each time that the heap is asked. */
const FIRST_SLOTS: u32 = 4;

// A bin in a cache: offsets from what `binOf` returns.
/** First free slot. */
const HEAD: usize = NO_CACHE;
/** How many slots may yet be freed before the list is measured. */
const CREDIT: usize = NO_CACHE + 4;
/** How many slots the list may have. */
const LIMIT: usize = NO_CACHE + 8;

/** What the caches have in common, at CACHES; the lock guards it. */
@unmanaged
class Common {
  /** First of the caches that no thread has; the first word of each is the next one's address. */
  spare: usize;
  /** Whether the caches were made, or it was tried. */
  made: bool;
  /** Whether the program has threads that call a key's destructor. */
  hasKey: bool;
  key: u32;
}

/** Where the thread's cache lies, counted from NO_CACHE. */
let cache: usize = 0;

/** This module's `thread_destructor`, as a table index. */
@external("env", "address of thread_destructor")
declare const DESTRUCTOR: usize;


@inline
function common(): Common {
  return changetype<Common>(STATE + CACHES);
}


@inline
function binOf(kind: u32): usize {
  return STATE + cache + ((<usize>kind) << CACHE_BIN_BITS);
}

/** Takes a slot of a bin from the thread's cache; 0 if it has none. */
@inline
export function takeCached(bin: u32): usize {
  const list = binOf(bin);
  const slot = load<usize>(list, HEAD);
  if (slot) store<usize>(list, load<usize>(slot), HEAD);
  return slot;
}

/** Puts a slot into the thread's cache. Returns false where that takes `releaseSlow`. */
@inline
export function putCached(kind: u32, slot: usize): bool {
  const list = binOf(kind);
  const credit = load<i32>(list, CREDIT) - 1;
  if (credit < 0) return false;
  store<i32>(list, credit, CREDIT);
  store<usize>(slot, load<usize>(list, HEAD));
  store<usize>(list, slot, HEAD);
  return true;
}

/** A slot of a bin, with more of them brought to the thread's cache; 0 when memory is out. */
export function takeSlot(bin: u32): usize {
  const cached = takeCached(bin);
  if (cached) return cached;
  lock();
  if (!cache) claim();
  let slot = listHead(bin);
  if (!slot) slot = refill(bin);
  if (!slot && emptyCache()) slot = refill(bin);
  if (slot) {
    // The slots from `slot` to `last` go.
    let last = slot;
    if (cache) {
      const list = binOf(bin);
      const limit = raiseLimit(list, bin);
      let brought: u32 = 0;
      while (brought < limit >>> 1 && load<usize>(last)) {
        last = load<usize>(last);
        ++brought;
      }
      setListHead(bin, load<usize>(last));
      store<usize>(last, 0);
      store<usize>(list, load<usize>(slot), HEAD);
      store<i32>(list, limit - brought, CREDIT);
    } else {
      setListHead(bin, load<usize>(slot));
    }
  }
  unlock();
  return slot;
}

function raiseLimit(list: usize, bin: u32): u32 {
  const most = max<u32>(min<u32>(LIST_BYTES / slotSize(bin), LIST_SLOTS), FIRST_SLOTS);
  const limit = min<u32>(max<u32>(load<u32>(list, LIMIT) << 1, FIRST_SLOTS), most);
  store<u32>(list, limit, LIMIT);
  return limit;
}

/** Frees what `putCached` has no place for. */
export function releaseSlow(kind: u32, block: usize): void {
  if (kind < LARGE) unreachable();
  let last = block;
  let rest: usize = 0;
  if (cache && kind >= FIRST_BIN) {
    const list = binOf(kind);
    const limit = raiseLimit(list, kind);
    store<usize>(block, load<usize>(list, HEAD));
    store<usize>(list, block, HEAD);
    // Keep half of the limit at most: after the first half, the rest goes.
    let length: u32 = 1;
    while (length < limit >>> 1 && load<usize>(last)) {
      last = load<usize>(last);
      ++length;
    }
    store<i32>(list, limit - length, CREDIT);
    rest = load<usize>(last);
    if (!rest) return;
    store<usize>(last, 0);
    block = rest;
    last = lastOf(rest);
  }
  lock();
  giveBack(kind, block, last);
  unlock();
}

function lastOf(slot: usize): usize {
  while (load<usize>(slot)) slot = load<usize>(slot);
  return slot;
}

/** Puts the linked slots from `first` to `last` on the heap's list of a kind. */
function giveBack(kind: u32, first: usize, last: usize): void {
  store<usize>(last, listHead(kind));
  setListHead(kind, first);
}

/** Gives all slots in the thread's cache back to the heap. Returns whether there were any. Needs the lock. */
export function emptyCache(): bool {
  let any = false;
  if (!cache) return any;
  for (let bin = FIRST_BIN; bin < END_BIN; ++bin) {
    const list = binOf(bin);
    const slot = load<usize>(list, HEAD);
    store<usize>(list, 0, HEAD);
    store<i32>(list, 0, CREDIT);
    store<u32>(list, 0, LIMIT);
    if (!slot) continue;
    giveBack(bin, slot, lastOf(slot));
    any = true;
  }
  return any;
}

/** Gives the thread one of the spare caches, if there is one. Needs the lock. */
function claim(): void {
  const c = common();
  if (!c.made) makeCaches();
  const spare = c.spare;
  if (!spare) return;
  c.spare = load<usize>(spare);
  store<usize>(spare, 0);
  cache = spare - (STATE + NO_CACHE);
  if (!endIsKnown()) return;
  if (!c.hasKey) c.hasKey = createKey(STATE + CACHES + offsetof<Common>("key"), DESTRUCTOR);
  if (c.hasKey) atThreadEnd(c.key);
}

/** At the first allocation. */
function makeCaches(): void {
  const c = common();
  c.made = true;
  const count = <usize>min<u32>(max<u32>(cores(), 1), MAX_CORES) * CACHES_PER_CORE;
  const pages = pagesFor(count * CACHE_SIZE);
  const page = obtainRun(pages);
  if (!page) return;
  // Like the page map they are the allocator's own: no block, and not in use.
  const s = state();
  s.used -= pages;
  s.peak = s.used;
  const first = addressOf(page);
  memory.fill(first, 0, count * CACHE_SIZE);
  for (let i: usize = 0; i < count; ++i) {
    const spare = first + i * CACHE_SIZE;
    store<usize>(spare, c.spare);
    c.spare = spare;
  }
}

/** Gives the thread's cache, and all that is in it, back. The thread may go on: it gets another. */
export function endThread(): void {
  if (!cache) return;
  lock();
  emptyCache();
  const c = common();
  const spare = STATE + NO_CACHE + cache;
  store<usize>(spare, c.spare);
  c.spare = spare;
  cache = 0;
  unlock();
}
