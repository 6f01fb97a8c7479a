// Compile-time constants, the variants of the build, and the layout of the allocator's state.

/** Built without the standard names, to live beside libc's own malloc, which owns the space after `__heap_base`. */
export const PREFIXED: bool = isDefined(RSB_PREFIXED);
/** Memory comes from Emscripten's `sbrk`, so that JavaScript's views of it stay valid. */
export const EMSCRIPTEN: bool = isDefined(RSB_EMSCRIPTEN);
/** Bugs in the program trap as soon as they can be seen: src/hardened.ts. */
export const HARDENED: bool = isDefined(RSB_HARDENED);
/** Threads have caches of free slots, and the heap behind them a lock. */
export const CACHED: bool = isDefined(RSB_MT) && !HARDENED;
/** Threads share the heap, so a lock guards it. */
export const LOCKED: bool = isDefined(RSB_MT) || isDefined(RSB_LOCKED);

export const PAGE_BITS: u32 = 11;
export const PAGE: u32 = 1 << PAGE_BITS;
export const WASM_PAGE_BITS: u32 = 16;
export const WASM_PAGE: usize = 1 << WASM_PAGE_BITS;

/**
 * Pages below 4 GiB. The last one stays unused, so that the end of a block never wraps to address 0; in a hardened
 * build the last wasm page, whose addresses stand for blocks of no bytes.
 */
export const LAST_PAGE: u32 = (1 << (32 - PAGE_BITS)) - (HARDENED ? 1 << (WASM_PAGE_BITS - PAGE_BITS) : 1);

// What a run of pages serves: its kind.
/** Not ours, free, or inside a run that serves a single block: no block starts here. */
export const NONE: u32 = 0;
/** A large block. */
export const LARGE: u32 = 1;
/** Slots of the first bin; the others follow. */
export const FIRST_BIN: u32 = 2;

/** log2 of the bins to a doubling of the size, up to SMALL_MAX. */
export const SMALL_STEPS: u32 = 2;
/** Bins to a doubling above that: a sixteenth more than a power of two, and each eighth. */
export const MEDIUM_BINS: u32 = 1 + 8;
/** Bins up to SMALL_MAX: 4 and 8 B, 1 << SMALL_STEPS multiples of 16, then 1 << SMALL_STEPS to each doubling. */
export const SMALL_BINS: u32 = 2 + (7 - SMALL_STEPS) * (1 << SMALL_STEPS);
export const BINS: u32 = SMALL_BINS + 4 * MEDIUM_BINS;
export const END_BIN: u32 = FIRST_BIN + BINS;
/** The largest request that a bin serves, in bytes. */
export const BIN_MAX: usize = 16384;
/** The largest request that `malloc` looks up in a table, in bytes. */
export const SMALL_MAX: usize = 1024;

/** "rsb1", or "rsbH" in a hardened build, whose slots hold other things. */
export const MAGIC: u32 = HARDENED ? 0x48627372 : 0x31627372;

export const ENOMEM: i32 = 48;
export const EINVAL: i32 = 28;

/** log2 of the size of a Bin (src/bins.ts) and of a Run (src/pages.ts), which knows more in a hardened build. */
export const BIN_BITS: u32 = 5;
export const RUN_BITS: u32 = HARDENED ? 6 : 5;
/** From one Run to the next, in bytes. */
export const RUN_STEP: usize = 1 << RUN_BITS;

/**
 * The state starts with these fields. Behind them lie:
 *
 *     bins            Bin[END_BIN]           by kind
 *     metadata pages  usize[2]               first and last of the ring of pages with spare Runs
 *     noRun           Run                    what the page map has for pages that are in no run
 *     metadata        Run                    what it has for metadata pages, which are made of Runs
 *     map             usize                  the page map: for each page from address 0 the address of its Run
 *     binOf           usize[SMALL_MAX/4+1]   by small size in words: address of its Bin; or where in a cache its bin is
 *
 * Threads read the last two without the lock. What lies before those, and hardly ever changes, keeps what is written
 * under the lock off their cache lines.
 */
@unmanaged
export class State {
  /** Sizes below this one are looked up in `binOf`: SMALL_MAX + 1, or 0 before the first allocation. */
  smallEnd: usize;
  /** MAGIC, for those who look at the heap from outside; 0 before the first allocation. */
  magic: u32;
  /** First of the runs with an event, a list; 0 ends it. */
  events: usize;
  /** Which pages are free: addresses of their bits and of the grades of these words (src/free-pages.ts). */
  free: usize;
  grades: usize;
  /** First page of the heap. */
  start: u32;
  /** The page after the heap's last. */
  end: u32;
  /** Pages that the map has room for. */
  capacity: u32;
  /** No page from here on was ever handed out: fresh linear memory, all zero. */
  fresh: u32;
  /** Pages in bins and large blocks, and the most there ever were. */
  used: u32;
  peak: u32;
  /** First of the thread caches, a list, for those who look at the heap from outside; 0 where there are none. */
  caches: usize;
}

export const BIN_TABLE: usize = (offsetof<State>() + 15) & ~15;
export const METADATA_PAGES: usize = BIN_TABLE + ((<usize>END_BIN) << BIN_BITS);
export const NO_RUN: usize = (METADATA_PAGES + 2 * sizeof<usize>() + 15) & ~15;
export const METADATA: usize = NO_RUN + RUN_STEP;
export const MAP: usize = METADATA + RUN_STEP;
export const BIN_OF: usize = MAP + sizeof<usize>();
const SHARED: usize = BIN_OF + SMALL_MAX + sizeof<usize>();

/** What threads write when they meet is kept off the lines that all of them read: some processors fetch two at once. */
const LINES: usize = 128;

/** The lock of src/lock.ts, an i32, and behind it what src/caches.ts keeps. Only in builds for threads. */
export const LOCK: usize = (SHARED + LINES + 15) & ~15;
export const CACHES: usize = LOCK + LINES;
/** u64[BATCH_STACKS][END_BIN], each row on lines of its own: the stacks of src/batches.ts. */
export const BATCHES: usize = CACHES + LINES;
/** A power of two: so many threads have stacks of their own. */
export const BATCH_STACKS: u32 = 4;
export const BATCH_ROW: usize = <usize>END_BIN * 8 + LINES;
/** An empty cache: stands for that of a thread that has none. Nobody writes to it. */
export const NO_CACHE: usize = (BATCHES + <usize>BATCH_STACKS * BATCH_ROW + 15) & ~15;
/** log2 of the bytes that a cache has for each kind of page. */
export const CACHE_BIN_BITS: u32 = 4;
export const CACHE_SIZE: usize = (<usize>END_BIN) << CACHE_BIN_BITS;
/** The first bin whose slots hold the two links of a batch: nothing smaller is handed out where there are caches. */
export const LEAST_BIN: u32 = CACHED ? FIRST_BIN + 1 : FIRST_BIN;
/** Where in those bytes the reserve is. NONE has none: there it is the address of the next cache. */
export const CACHE_RESERVE: usize = 8;

/** Hardened builds all have the lock's place, so that they have one layout. */
const PLAIN_SIZE: usize = CACHED ? NO_CACHE + CACHE_SIZE : LOCKED || HARDENED ? CACHES : SHARED;

/** What a hardened build has besides, followed by arrays: */
@unmanaged
export class Guards {
  /** From the host: an odd number, which decides what slots are handed out in which order. */
  random: u64;
  /** What trailers are exclusive-ored with (src/guards.ts), in part from the host. 0 before the first slot. */
  secret: u32;
  /** Of the fault that the program ended with: an address of text, the pointer, the size of the block if it is known. */
  faultMessage: usize;
  faultBlock: usize;
  faultSize: usize;
  /** Of a page that stays zero, 0 if there is none: the first, which would be beside the heap's own data. */
  wall: usize;
  /** Where in the quarantines of small and of other slots the next one goes, in bytes. */
  smallNext: u32;
  mediumNext: u32;
  /** Where it is noted that the next large block is gone. */
  goneNext: u32;
  /** The block of no bytes that is tried next, and the end of those that were ever handed out. */
  zeroNext: u32;
  zeroEver: u32;
}

export const GUARDS: usize = (PLAIN_SIZE + 15) & ~15;
/** usize[]: freed slots of up to SMALL_MAX bytes, a ring; behind it one for those of more bytes. */
export const QUARANTINE: usize = GUARDS + offsetof<Guards>();
export const SMALL_QUARANTINE: u32 = 64;
export const MEDIUM_QUARANTINE: u32 = 8;
export const QUARANTINE_SLOTS: u32 = SMALL_QUARANTINE + MEDIUM_QUARANTINE;
/** usize[]: where the large blocks began that were freed last, a ring. */
export const GONE: usize = QUARANTINE + <usize>QUARANTINE_SLOTS * 4;
export const GONE_BLOCKS: u32 = 64;
/** A bit for each block of no bytes: whether it is in use. */
export const ZERO_BLOCKS: usize = GONE + <usize>GONE_BLOCKS * 4;
export const ZERO_BLOCK_COUNT: u32 = 4096;

export const STATE_SIZE: usize = HARDENED ? ZERO_BLOCKS + ZERO_BLOCK_COUNT / 8 : PLAIN_SIZE;

/**
 * Where the state lies: the linker or the host puts it there, zeroed. Only what is not negative is added to it for an
 * address to load from, for that may become the load's offset (docs/object-format.md).
 */
@external("env", "__rsb_state")
export declare const STATE: usize;


@inline
export function state(): State {
  return changetype<State>(STATE);
}


@inline
export function guards(): Guards {
  return changetype<Guards>(STATE + GUARDS);
}
