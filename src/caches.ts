// Thread caches: free slots, by bin, that one thread takes and puts back without a lock.
//
// Each wasm thread is an instance of its own, so a mutable wasm global is thread-local: `cache` tells where the thread's
// cache lies, as the distance from NO_CACHE, an empty one that stands for none and needs no test on the fast path.
//
// A cache has a stack of slots for each kind of page, 256 bytes apart, that grows downwards:
//
//     | room | ... | newest slot | ... | oldest slot | 0 | ... | limit |
//     0      4     room + 4                          4 * limit + 4     252
//
// `malloc` takes the newest slot, or finds the 0 behind the oldest one. `free` puts a slot there, whichever thread got it,
// as long as there is room. So a cache never holds more than its limits, and memory stays bounded when one thread
// allocates and others free. A stack that is empty gets as much as half its limit from the locked heap at once, and one
// that is full gives the older half back. Limits start low and double each time, so bins in little use hold little.
//
// NONE, FREE and LARGE never have room, nor has any stack of NO_CACHE: what is not for a stack, and what has no cache to
// go to, takes the slow path of `free`.
//
// Orderings. A cache belongs to one thread at a time. It changes hands through the list of spare ones under the lock, so
// its next owner sees all that the last one wrote. The same goes for the slots that pass through the heap. A slot that
// another thread frees was given to it by the program, and that ordered the two threads (C17 5.1.2.4): all that the
// allocating thread did to it comes before. wasi-tests/model/caches.pml checks the hand-over.

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

// A stack: offsets from what `stackOf` returns.
/** How many more slots fit, times 4. */
const ROOM: usize = NO_CACHE;
/** What `room` is added to to get the newest slot, and to get the place for another. */
const NEWEST: usize = NO_CACHE + 4;
const PLACE: usize = NO_CACHE;
/** How many slots fit into the empty stack. */
const LIMIT: usize = NO_CACHE + (1 << CACHE_BIN_BITS) - 4;

/** The most that a stack may hold: slots, as fit between its first and last words and a 0, and bytes. */
const MOST_SLOTS: u32 = (1 << (CACHE_BIN_BITS - 2)) - 3;
const MOST_BYTES: u32 = 8192;
/** The least that its limit is: half of it must be something. */
const LEAST_SLOTS: u32 = 2;

/** What the caches have in common, at CACHES; the lock guards it. */
@unmanaged
class Common {
  /** First of the caches that no thread has; the first word of each is the next one's address. */
  spare: usize;
  /** How many may yet be made, once that is known. */
  toMake: u32;
  isKnown: bool;
  /** Whether there is a key with a destructor for threads that end. */
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
function stackOf(kind: u32): usize {
  return STATE + cache + ((<usize>kind) << CACHE_BIN_BITS);
}

/** Takes a slot of a bin from the thread's cache; 0 if it has none. */
@inline
export function takeCached(bin: u32): usize {
  const stack = stackOf(bin);
  const room = load<usize>(stack, ROOM);
  const slot = load<usize>(stack + room, NEWEST);
  if (slot) store<usize>(stack, room + 4, ROOM);
  return slot;
}

/** Puts a slot into the thread's cache. Returns false where that takes `releaseSlow`. */
@inline
export function putCached(kind: u32, slot: usize): bool {
  const stack = stackOf(kind);
  const room = load<usize>(stack, ROOM);
  if (!room) return false;
  store<usize>(stack + room, slot, PLACE);
  store<usize>(stack, room - 4, ROOM);
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
  if (slot) setListHead(bin, cache ? bring(bin, load<usize>(slot)) : load<usize>(slot));
  unlock();
  return slot;
}

/** Fills the empty stack of a bin to half its limit from a list of slots. Returns the rest of the list. */
function bring(bin: u32, list: usize): usize {
  const stack = stackOf(bin);
  const limit = raiseLimit(stack, bin);
  let room = (<usize>(limit - (limit >>> 1))) << 2;
  const newest = stack + room;
  const end = stack + ((<usize>limit) << 2);
  // The first of the list is to be the newest: neighbours in memory are handed out in order.
  let at = newest;
  while (at < end && list) {
    store<usize>(at, list, NEWEST);
    list = load<usize>(list);
    at += 4;
  }
  if (at < end) {
    memory.copy(newest + (end - at) + NEWEST, newest + NEWEST, at - newest);
    room += end - at;
  }
  store<usize>(stack, room, ROOM);
  return list;
}

/** Doubles a stack's limit, as far as it may go. What is in the stack is left in the wrong place. */
function raiseLimit(stack: usize, bin: u32): u32 {
  const most = max<u32>(min<u32>(MOST_BYTES / slotSize(bin), MOST_SLOTS), LEAST_SLOTS);
  const limit = min<u32>(max<u32>(load<u32>(stack, LIMIT) << 1, LEAST_SLOTS), most);
  store<u32>(stack, limit, LIMIT);
  store<usize>(stack + ((<usize>limit) << 2), 0, NEWEST);
  return limit;
}

/** Frees what `putCached` has no place for. */
export function releaseSlow(kind: u32, block: usize): void {
  if (kind < LARGE) unreachable();
  let first = block;
  let last = block;
  if (cache && kind >= FIRST_BIN) {
    const stack = stackOf(kind);
    const held = load<u32>(stack, LIMIT);
    let limit = raiseLimit(stack, kind);
    let kept = held;
    if (limit == held) {
      // The older half leaves, linked.
      kept = held - (held >>> 1);
      first = 0;
      for (let i = kept; i < held; ++i) {
        const slot = load<usize>(stack + ((<usize>i) << 2), NEWEST);
        if (first) store<usize>(slot, first);
        else last = slot;
        first = slot;
      }
    }
    const room = (<usize>(limit - kept)) << 2;
    memory.copy(stack + room + NEWEST, stack + NEWEST, (<usize>kept) << 2);
    store<usize>(stack + room, block, PLACE);
    store<usize>(stack, room - 4, ROOM);
    if (kept == held) return;
  }
  lock();
  giveBack(kind, first, last);
  unlock();
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
    for (let slot = takeCached(bin); slot; slot = takeCached(bin)) {
      giveBack(bin, slot, slot);
      any = true;
    }
    const stack = stackOf(bin);
    store<u32>(stack, 0, LIMIT);
    store<usize>(stack, 0, ROOM);
    store<usize>(stack, 0, NEWEST);
  }
  return any;
}

/** Gives the thread a spare cache, or a new one as long as there may be more. Needs the lock. */
function claim(): void {
  const c = common();
  if (!c.isKnown) {
    c.isKnown = true;
    c.toMake = min<u32>(max<u32>(cores(), 1), MAX_CORES) * CACHES_PER_CORE;
  }
  const spare = c.spare ? c.spare : make(c);
  if (!spare) return;
  c.spare = load<usize>(spare);
  store<usize>(spare, 0);
  cache = spare - (STATE + NO_CACHE);
  if (!endIsKnown()) return;
  if (!c.hasKey) c.hasKey = createKey(STATE + CACHES + offsetof<Common>("key"), DESTRUCTOR);
  if (c.hasKey) atThreadEnd(c.key);
}

/** A new, empty cache; 0 if there are enough, or memory is out. */
function make(c: Common): usize {
  const s = state();
  const peak = s.peak;
  const pages = pagesFor(CACHE_SIZE);
  const page = c.toMake ? obtainRun(pages) : 0;
  if (!page) return 0;
  --c.toMake;
  // Like the page map it is the allocator's own: no block, and not in use.
  s.used -= pages;
  s.peak = peak;
  memory.fill(addressOf(page), 0, CACHE_SIZE);
  return addressOf(page);
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
