// Thread caches: free lists, one per bin, that a thread takes slots from and returns them to without a lock.
//
// Each wasm thread is an instance of its own, so a mutable wasm global is thread-local. `cache` is the offset of the
// thread's cache from NO_CACHE, an empty cache that stands for none, so that the fast path needs no test for that.
// (Emscripten runs one thread after another on the same instance. If it does not report a thread's end, the next one
// there has its cache.)
//
// A cache has a cell of four words for each kind of run:
//
//     | list | room | reserve | - |
//
// The cell of NONE, which has no slots, holds words about the cache: the next spare cache, 0, the next in the list of
// all caches, the cache's number.
//
// `malloc` pops the first slot of the list. `free` pushes a slot there, whichever thread allocated it, as long as there
// is room. A full list is a batch. One batch is kept in reserve; the next goes to one of the bin's stacks of batches
// (src/batches.ts), for any thread whose list and reserve are empty. Only when those stacks are empty too does a thread
// lock the heap. So a cache holds at most two batches of a bin, and memory stays bounded when one thread allocates and
// others free. And a thread that alternates between a full and an empty list touches shared state only once per batch.
//
// The more caches there are, the smaller are the batches made from then on: the memory in all caches together grows
// much less than their number. Slots so large that a batch would be a single one go straight to the stacks.
//
// The cells of NONE and LARGE never have room, nor do those of NO_CACHE: whatever does not belong in a cache, or has no
// cache to go to, takes the slow path of `free`.
//
// The heap can only reclaim memory whose slots it has, so all batches go back to it before it grows for a slot or a
// large block.
//
// Memory ordering. A cache belongs to one thread at a time. It changes hands through the list of spare caches, under
// the lock, so its next owner sees everything that the last one wrote. The same holds for slots that pass through the
// heap (the lock) or in batches (src/batches.ts). If a thread frees a slot that another one allocated, the program has
// handed it over, which synchronized the two threads (C17 5.1.2.4): whatever the allocating thread did to it happens
// before. wasi-tests/model/caches.pml checks the hand-over.
//
// Also read without the lock are the Run of a block (src/pages.ts), the number of caches, and `binOf`, which the first
// allocation may write while other threads read it. They find the final value there, or 0: that is the cell of NONE, in
// which no cache has a slot.
//
// A Run's cache line is read by every thread that frees a block of the run, and written when slots move to or from the
// heap. With caches that is usually once per batch, so two Runs may share a line.

import {
  CACHES,
  CACHE_BIN_BITS,
  CACHE_RESERVE,
  CACHE_SIZE,
  END_BIN,
  FIRST_BIN,
  LARGE,
  LEAST_BIN,
  NONE,
  NO_CACHE,
  STATE,
  state,
} from "./config";
import { putBatch, takeBatch } from "./batches";
import { Bin, FEW_WASTE_BITS, binAt, ensureStarted, runPages, smallBin } from "./bins";
import { hasSlot, popSlot, putBack, take, takePages } from "./compact";
import { lock, trapUnlocked, unlock } from "./lock";
import { fillMemory } from "./memory";
import { findAligned, findFree } from "./free-pages";
import { Run, addressOf, hasSpareRun, mayGrow, pagesFor, runOf } from "./pages";
import { atThreadEnd, cores, createKey, endIsKnown } from "./pthread";

/** Caches per core: more than one, because a thread keeps its cache while it is blocked. */
const CACHES_PER_CORE: u32 = 4;
const MAX_CORES: u32 = 256;
export const MOST_CACHES: u32 = CACHES_PER_CORE * MAX_CORES;

// The words of a cell: offsets from what `cellOf` returns.
/** First slot of the free list, or 0. */
const LIST: usize = NO_CACHE;
/** How many more slots the list has room for. */
const ROOM: usize = NO_CACHE + 4;
/** The first slot of a batch, or 0. */
const RESERVE: usize = NO_CACHE + CACHE_RESERVE;
/** In the cell of NONE: the cache's number. */
const NUMBER: usize = NO_CACHE + 12;

/**
 * Limits of a batch: in slots, and in bytes, which are divided by the number of caches. Slots of up to SMALL_SLOT bytes
 * have a limit of their own.
 */
const BATCH_SLOTS: u32 = 20;
const BATCH_BYTES: u32 = 6144;
const SMALL_BATCH_BYTES: u32 = 2 * BATCH_BYTES;
const SMALL_SLOT: u32 = 256;

/** State that all caches share, at CACHES. The lock guards it. */
@unmanaged
class Common {
  /** First of the caches without a thread, a list linked through their first words. */
  spare: usize;
  /** The maximum number of caches; 0 as long as that is not known. */
  most: u32;
  /** The number of caches. Also read without the lock, where a stale value does no harm. */
  made: u32;
  /** Whether `key` is a pthread key, whose destructor runs when a thread ends. */
  hasKey: bool;
  key: u32;
}

/** The offset of the calling thread's cache from NO_CACHE; 0 if it has none. */
let cache: usize = 0;

/** The table index of this module's `thread_destructor`. */
@external("env", "address of thread_destructor")
declare const DESTRUCTOR: usize;


@inline
function common(): Common {
  return changetype<Common>(STATE + CACHES);
}


@inline
function cellOf(kind: u32): usize {
  return STATE + cache + ((<usize>kind) << CACHE_BIN_BITS);
}

/** Returns the number of the stack that the thread prefers among a bin's stacks of batches. */
function ownStack(): u32 {
  return load<u32>(cellOf(NONE), NUMBER);
}

/** Returns the cell that the thread's cache has for a size of at most SMALL_MAX. */
@inline
export function smallCell(size: usize): usize {
  return STATE + cache + smallBin(size);
}

/** Returns the first slot of a cell's list, or 0. */
@inline
export function firstSlot(cell: usize): usize {
  return load<usize>(cell, LIST);
}

/** Pops `slot`, the first one, off a cell's list. */
@inline
export function takeCached(cell: usize, slot: usize): void {
  store<usize>(cell, load<usize>(slot), LIST);
  store<u32>(cell, load<u32>(cell, ROOM) + 1, ROOM);
}

/** Frees a block: into the thread's cache, or on the slow path if there is no room for it. */
@inline
export function releaseCached(run: Run, slot: usize): void {
  const cell = cellOf(run.kind);
  const room = load<u32>(cell, ROOM);
  if (!room) {
    releaseSlow(run, slot);
    return;
  }
  store<usize>(slot, load<usize>(cell, LIST));
  store<usize>(cell, slot, LIST);
  store<u32>(cell, room - 1, ROOM);
}

/** Returns a slot of a bin, refilling the thread's cache if need be; 0 when out of memory. */
export function takeSlot(bin: u32): usize {
  bin = max(bin, LEAST_BIN);
  const cell = cellOf(bin);
  const slot = firstSlot(cell);
  if (slot) {
    takeCached(cell, slot);
    return slot;
  }
  let batch = load<usize>(cell, RESERVE);
  if (batch) store<usize>(cell, 0, RESERVE);
  else if (cache) batch = takeBatch(bin, ownStack());
  if (!batch) return takeFromHeap(bin);
  const next = load<usize>(batch);
  if (next) store<u32>(cell, 1, ROOM);
  store<usize>(cell, next, LIST);
  return batch;
}

/** Returns a slot of the heap, and refills the thread's cache with as much of a batch as the heap has ready. */
function takeFromHeap(kind: u32): usize {
  const bin = binAt(kind);
  lock();
  const slot = heapSlot(bin);
  if (slot) {
    // Claim a cache only now: had it been made first, it might have taken the last free page, which the slot needed.
    if (!cache) claim();
    const cell = cellOf(kind);
    let room = cache ? batchSlots(bin.size) : 0;
    let last = slot;
    while (room > 1 && hasSlot(bin)) {
      const more = popSlot(bin);
      store<usize>(last, more);
      last = more;
      --room;
    }
    store<usize>(last, 0);
    if (cache) {
      store<usize>(cell, load<usize>(slot), LIST);
      store<u32>(cell, room, ROOM);
    }
  }
  unlock();
  return slot;
}

/** Returns a slot of one of the heap's bins; 0 when out of memory. Needs the lock. */
function heapSlot(bin: Bin): usize {
  if (!ensureStarted()) return 0;
  if (!hasSlot(bin)) makeRoom(runPages(bin.size, FEW_WASTE_BITS), 1);
  return take(bin);
}

/**
 * Gives all batches and the thread's own cache back to the heap if it has no free run of `pages` at a multiple of
 * `alignment` pages. Needs the lock.
 */
export function makeRoom(pages: u32, alignment: u32): void {
  if (!(hasSpareRun() && findAligned(pages, alignment))) giveAllBack();
}

/** Frees a block whose cell has no room for it. Traps if no block can start in its page. */
function releaseSlow(run: Run, block: usize): void {
  const kind: u32 = run.kind;
  // Of kind NONE, whose `start` is 0, or inside a large block.
  if (kind < FIRST_BIN && block != run.start) unreachable();
  store<usize>(block, 0);
  if (cache && kind != LARGE) {
    const cell = cellOf(kind);
    const most = batchSlots(run.size);
    let batch = block;
    if (most) {
      batch = load<usize>(cell, RESERVE);
      store<usize>(cell, load<usize>(cell, LIST), RESERVE);
      store<usize>(cell, block, LIST);
      store<u32>(cell, most - 1, ROOM);
    }
    if (batch) putBatch(kind, ownStack(), batch);
    return;
  }
  // Freeing must not claim a cache. C libraries free a thread's own data after its destructors have run, when nothing
  // would return the cache any more; and the block may be the one that `pthread_setspecific` would write to.
  lock();
  giveBack(block);
  unlock();
}

/**
 * Gives the linked list of slots from `slot` on back to the heap. Returns whether there were any. Needs the lock. Traps if
 * more slots of a run come back than were taken: freed twice, they may be a list without an end, and other threads
 * would wait forever.
 */
function giveBack(slot: usize): bool {
  if (!slot) return false;
  do {
    const next = load<usize>(slot);
    const run = runOf(slot);
    if (run.left <= 0) trapUnlocked();
    putBack(run, slot);
    slot = next;
  } while (slot);
  return true;
}

/** Gives all batches, and what is in the thread's cache, back to the heap. Needs the lock. */
export function giveAllBack(): void {
  for (let bin = LEAST_BIN; bin < END_BIN; ++bin) {
    while (giveBack(takeBatch(bin, 0))) {}
    // Without a cache, this writes zeros where there are zeros.
    const cell = cellOf(bin);
    giveBack(load<usize>(cell, LIST));
    giveBack(load<usize>(cell, RESERVE));
    store<usize>(cell, 0, LIST);
    store<u32>(cell, 0, ROOM);
    store<usize>(cell, 0, RESERVE);
  }
}

/** Gives the thread a spare cache or else a new one, if there may be another. Needs the lock. */
function claim(): void {
  const c = common();
  if (!c.most) c.most = min<u32>(max<u32>(cores(), 1), MAX_CORES) * CACHES_PER_CORE;
  const spare = c.spare ? c.spare : make(c);
  if (!spare) return;
  c.spare = load<usize>(spare);
  store<usize>(spare, 0);
  cache = spare - (STATE + NO_CACHE);
  if (!endIsKnown()) return;
  if (!c.hasKey) c.hasKey = createKey(STATE + CACHES + offsetof<Common>("key"), DESTRUCTOR);
  if (c.hasKey) atThreadEnd(c.key);
}

/** Returns how many slots of `size` bytes a batch has at the present number of caches; 0 if caches keep none of them. */
function batchSlots(size: u32): u32 {
  const bytes = size <= SMALL_SLOT ? SMALL_BATCH_BYTES : BATCH_BYTES;
  const slots = min<u32>(bytes / (size * common().made), BATCH_SLOTS);
  return slots > 1 ? slots : 0;
}

/** Returns a new, empty cache; 0 if there are `most` already, or if memory is out or might be (see `mayGrow`). */
function make(c: Common): usize {
  const s = state();
  const pages = pagesFor(CACHE_SIZE);
  if (c.made == c.most || !(findFree(pages) || mayGrow(pages))) return 0;
  const page = takePages(pages, 1);
  if (!page) return 0;
  const made = addressOf(page);
  fillMemory(made, 0, CACHE_SIZE);
  store<usize>(made, s.caches, CACHE_RESERVE);
  store<u32>(made, ++c.made, NUMBER - NO_CACHE);
  s.caches = made;
  return made;
}

/**
 * Gives the thread's cache, and all batches, back to the heap, and makes the cache spare. A thread that goes on
 * allocating gets another one.
 */
export function endThread(): void {
  if (!cache) return;
  lock();
  giveAllBack();
  const c = common();
  const spare = STATE + NO_CACHE + cache;
  store<usize>(spare, c.spare);
  c.spare = spare;
  cache = 0;
  unlock();
}
