// Thread caches: free slots, by bin, that one thread takes and puts back without a lock.
//
// Each wasm thread is an instance of its own, so a mutable wasm global is thread-local: `cache` tells where the thread's
// cache lies, as the distance from NO_CACHE, an empty one that stands for none and needs no test on the fast path.
//
// A cache has four words for each kind of page:
//
//     | list | room | reserve | most |
//
// NONE, which has no slots, has the cache's own words there: the next spare cache, 0, the next of all caches, its number.
//
// `malloc` takes the first slot of the list. `free` puts a slot there, whichever thread got it, until there is no more room:
// then the list is a whole batch of `most` slots. One batch is kept in reserve, the next goes to one of the bin's stacks of
// batches (src/batches.ts), where any thread whose list and reserve are empty finds it. Only when there is none there does a
// thread lock the heap. So a cache holds two batches of a bin at most, and memory stays bounded when one thread allocates
// and others free; and a thread that goes to and fro between a full and an empty list meets others once in a batch.
//
// The more caches there are, the smaller are the batches that are made from then on: what all together hold back grows
// much less than their number. Slots so large that a batch would be one of them go to the stack at once, each by itself: `most` is 0.
//
// NONE and LARGE never have room, nor has any list of NO_CACHE: what is not for a cache, and what has no cache to go to,
// takes the slow path of `free`.
//
// The heap looks at its own slots alone when it wants memory back, so batches return to it before it grows for a slot or
// a large block.
//
// Orderings. A cache belongs to one thread at a time. It changes hands through the list of spare ones under the lock, so
// its next owner sees all that the last one wrote. The same goes for the slots that pass through the heap or in batches. A
// slot that another thread frees was given to it by the program, and that ordered the two threads (C17 5.1.2.4): all that
// the allocating thread did to it comes before. wasi-tests/model/caches.pml checks the hand-over.
//
// What else is read without the lock: the Run of a block (src/pages.ts); how many caches there are; and `binOf`, which the
// first allocation writes, maybe while other threads read it. They find the right number there or 0, which is the
// place of NONE, where no cache has a slot.
//
// A Run's cache line is read by whoever frees a block of it, and written when slots go to the heap or come from there:
// with caches that is once in a batch as a rule, so two Runs may share a line.

import {
  CACHES,
  CACHE_BIN_BITS,
  CACHE_RESERVE,
  CACHE_SIZE,
  END_BIN,
  LARGE,
  LEAST_BIN,
  NONE,
  NO_CACHE,
  STATE,
  state,
} from "./config";
import { putBatch, takeBatch } from "./batches";
import {
  WASTE_BITS,
  binAt,
  obtainRun,
  putBack,
  runPages,
  settle,
  smallBin,
  takeReady,
  takeFreed,
  takeSlow,
} from "./bins";
import { lock, unlock } from "./lock";
import { fillMemory } from "./memory";
import { findFree } from "./free-pages";
import { Run, hasSpareRun, pagesFor, runOf } from "./pages";
import { atThreadEnd, cores, createKey, endIsKnown } from "./pthread";
import { slotSize } from "./size-classes";

/** Caches to a core: threads that wait for something else keep theirs. */
const CACHES_PER_CORE: u32 = 4;
const MAX_CORES: u32 = 256;

// What a cache has of a bin: offsets from what `cellOf` returns.
/** First of the free slots. */
const LIST: usize = NO_CACHE;
/** How many more fit. */
const ROOM: usize = NO_CACHE + 4;
/** A batch, or 0. */
const RESERVE: usize = NO_CACHE + CACHE_RESERVE;
/** How many slots there are in a batch; 0 where slots are not kept. */
const MOST: usize = NO_CACHE + 12;

/** The most that a batch holds, in slots, and in bytes if there were one cache: more of slots that are small. */
const BATCH_SLOTS: u32 = 32;
const BATCH_BYTES: u32 = 8192;
const SMALL_BATCH_BYTES: u32 = 3 * BATCH_BYTES;
const SMALL_SLOT: u32 = 256;

/** What the caches have in common, at CACHES; the lock guards it. */
@unmanaged
class Common {
  /** First of the caches that no thread has; the first word of each is the next one's address. */
  spare: usize;
  /** How many there may be; 0 as long as that is not known. */
  most: u32;
  /** How many there are. Also read without the lock: it need not be the newest number. */
  made: u32;
  /** Whether there is a key with a destructor for threads that end. */
  hasKey: bool;
  key: u32;
}

/** Where the thread's cache lies, counted from NO_CACHE. */
let cache: usize = 0;
/** How many caches there were when the batches of this one got their size. */
let sizedFor: u32 = 0;

/** This module's `thread_destructor`, as a table index. */
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

/** Which of a bin's stacks of batches is the thread's. */
function ownStack(): u32 {
  return load<u32>(cellOf(NONE), MOST);
}

/** Where the thread's cache has the bin of a small size. */
@inline
export function smallCell(size: usize): usize {
  return STATE + cache + smallBin(size);
}

/** The first slot of a cell's list; 0 if there is none. */
@inline
export function firstSlot(cell: usize): usize {
  return load<usize>(cell, LIST);
}

/** Takes it from the list. */
@inline
export function takeCached(cell: usize, slot: usize): void {
  store<usize>(cell, load<usize>(slot), LIST);
  store<u32>(cell, load<u32>(cell, ROOM) + 1, ROOM);
}

/** Puts a slot of a run into the thread's cache, or where there is a place for it. */
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

/** A slot of a bin, with more of them brought to the thread's cache; 0 when memory is out. */
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

/** The same from the heap: as much as a batch, if the heap has it at hand. */
function takeFromHeap(bin: u32): usize {
  lock();
  const slot = heapSlot(bin);
  if (slot) {
    // Not before there is a slot, which may need the last free page.
    if (!cache) claim();
    else if (sizedFor != common().made) sizeBatches();
    const cell = cellOf(bin);
    let room = load<u32>(cell, MOST);
    let last = slot;
    while (room > 1) {
      const more = takeReady(binAt(bin));
      if (!more) break;
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

/** A slot of a bin of the heap; 0 when memory is out. */
function heapSlot(bin: u32): usize {
  const slot = takeFreed(bin);
  if (slot) return slot;
  makeRoom(runPages(slotSize(bin), WASTE_BITS));
  return takeSlow(bin);
}

/** Gives all free slots back to the heap if it has no run of `pages`, but those in other threads' caches. Needs the lock. */
export function makeRoom(pages: u32): void {
  if (!state().magic) return;
  if (hasSpareRun() && findFree(pages)) return;
  settle();
  if (!hasSpareRun() || !findFree(pages)) giveAllBack();
}

/** Frees what there is no room for in a list. */
function releaseSlow(run: Run, block: usize): void {
  const kind: u32 = run.kind;
  if (kind < LARGE) unreachable();
  store<usize>(block, 0);
  if (cache && kind != LARGE) {
    if (sizedFor != common().made) sizeBatches();
    const cell = cellOf(kind);
    const most = load<u32>(cell, MOST);
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
  // No reason to claim a cache: C libraries free a thread's own data after its destructors, when nobody would give it back,
  // and the block may be the one where `pthread_setspecific` writes.
  lock();
  giveBack(block);
  unlock();
}

/** Gives the slots that are linked from `slot` on back to the heap. Returns whether there were any. */
function giveBack(slot: usize): bool {
  if (!slot) return false;
  do {
    const next = load<usize>(slot);
    putBack(runOf(slot), slot);
    slot = next;
  } while (slot);
  return true;
}

/** Gives all batches, and what is in the thread's cache, back to the heap. Needs the lock. */
export function giveAllBack(): void {
  for (let bin = LEAST_BIN; bin < END_BIN; ++bin) {
    while (giveBack(takeBatch(bin, 0))) {}
  }
  emptyCache();
}

/** Gives all slots in the thread's cache back to the heap. Needs the lock. */
function emptyCache(): void {
  if (!cache) return;
  for (let bin = LEAST_BIN; bin < END_BIN; ++bin) {
    const cell = cellOf(bin);
    giveBack(load<usize>(cell, LIST));
    giveBack(load<usize>(cell, RESERVE));
    store<usize>(cell, 0, LIST);
    store<u32>(cell, 0, ROOM);
    store<usize>(cell, 0, RESERVE);
  }
}

/** Gives the thread a spare cache, or a new one as long as there may be more. Needs the lock. */
function claim(): void {
  const c = common();
  if (!c.most) c.most = min<u32>(max<u32>(cores(), 1), MAX_CORES) * CACHES_PER_CORE;
  const spare = c.spare ? c.spare : make(c);
  if (!spare) return;
  c.spare = load<usize>(spare);
  store<usize>(spare, 0);
  cache = spare - (STATE + NO_CACHE);
  sizeBatches();
  if (!endIsKnown()) return;
  if (!c.hasKey) c.hasKey = createKey(STATE + CACHES + offsetof<Common>("key"), DESTRUCTOR);
  if (c.hasKey) atThreadEnd(c.key);
}

/** Gives the batches of the thread's cache the size that is due with as many caches as there are now. */
function sizeBatches(): void {
  sizedFor = common().made;
  for (let bin = LEAST_BIN; bin < END_BIN; ++bin) {
    const size = slotSize(bin);
    const bytes = size <= SMALL_SLOT ? SMALL_BATCH_BYTES : BATCH_BYTES;
    const most = min<u32>(bytes / (size * sizedFor), BATCH_SLOTS);
    store<u32>(cellOf(bin), most > 1 ? most : 0, MOST);
  }
}

/** A new, empty cache; 0 if there are enough, or memory is out. */
function make(c: Common): usize {
  const s = state();
  const peak = s.peak;
  const pages = pagesFor(CACHE_SIZE);
  const run = c.made < c.most ? obtainRun(pages, pages, 1) : changetype<Run>(0);
  if (!run) return 0;
  ++c.made;
  // Like the page map it is the allocator's own: no block, and not in use.
  s.used -= pages;
  s.peak = peak;
  const made = run.start;
  fillMemory(made, 0, CACHE_SIZE);
  store<usize>(made, s.caches, CACHE_RESERVE);
  store<u32>(made, c.made, MOST - NO_CACHE);
  s.caches = made;
  return made;
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
