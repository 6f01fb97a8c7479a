// Compile-time constants, the variants of the build, and the layout of the allocator's state.

/** Built without the standard names, to coexist with libc's malloc, which owns the memory after `__heap_base`. */
export const PREFIXED: bool = isDefined(RSB_PREFIXED);
/** Memory comes from Emscripten's `sbrk`, so that JavaScript's views of it stay valid. */
export const EMSCRIPTEN: bool = isDefined(RSB_EMSCRIPTEN);
/** Bugs in the program trap as soon as they can be detected: src/hardened.ts. */
export const HARDENED: bool = isDefined(RSB_HARDENED);
/** Each thread has a cache of free slots; a lock guards the heap behind the caches. */
export const CACHED: bool = isDefined(RSB_MT) && !HARDENED;
/** Threads share the heap, so a lock guards it. */
export const LOCKED: bool = isDefined(RSB_MT) || isDefined(RSB_LOCKED);
/**
 * As little code as possible: src/compact.ts. The builds with a lock are compact too: with thread caches in front of it
 * the heap hardly needs to be fast, and without them the lock costs most of the time.
 */
export const COMPACT: bool = (isDefined(RSB_COMPACT) || LOCKED) && !HARDENED;
/** Threads look up the Runs of their blocks without the lock: src/pages.ts. */
export const LOCK_FREE_MAP: bool = LOCKED && !HARDENED;

export const PAGE_BITS: u32 = 11;
export const PAGE: u32 = 1 << PAGE_BITS;
export const WASM_PAGE_BITS: u32 = 16;
export const WASM_PAGE: usize = 1 << WASM_PAGE_BITS;

/**
 * The heap ends at this page at the latest. The last page below 4 GiB stays unused, so that the end of a block never
 * wraps to address 0; in a hardened build the last wasm page, whose addresses stand for zero-size blocks.
 */
export const LAST_PAGE: u32 = (1 << (32 - PAGE_BITS)) - (HARDENED ? 1 << (WASM_PAGE_BITS - PAGE_BITS) : 1);

// Kinds: what a page run is used for.
/** No block starts here: the page is not ours, is free or metadata, or lies inside a run that holds a single block. */
export const NONE: u32 = 0;
/** A large block. */
export const LARGE: u32 = 1;
/** Slots of the first bin; the kinds of the other bins follow. */
export const FIRST_BIN: u32 = 2;

/** log2 of the number of bins per doubling of the size, up to SMALL_MAX. */
export const SMALL_STEPS: u32 = 2;
/** Bins per doubling above SMALL_MAX: one a sixteenth above the power of two, and one at each eighth. */
export const MEDIUM_BINS: u32 = 1 + 8;
/** Bins up to SMALL_MAX: 4 and 8 B, 1 << SMALL_STEPS multiples of 16, then 1 << SMALL_STEPS per doubling. */
export const SMALL_BINS: u32 = 2 + (7 - SMALL_STEPS) * (1 << SMALL_STEPS);
export const BINS: u32 = SMALL_BINS + 4 * MEDIUM_BINS;
export const END_BIN: u32 = FIRST_BIN + BINS;
/** The largest request served from a bin, in bytes. */
export const BIN_MAX: usize = 16384;
/** The largest request whose bin `malloc` looks up in a table, in bytes. */
export const SMALL_MAX: usize = 1024;

/** "rsb1", or "rsbH" in a hardened build, whose slots are laid out differently. */
export const MAGIC: u32 = HARDENED ? 0x48627372 : 0x31627372;

export const ENOMEM: i32 = 48;
export const EINVAL: i32 = 28;

/** log2 of the size of a Bin (src/bins.ts) and of a Run (src/pages.ts), which has more fields in a hardened build. */
export const BIN_BITS: u32 = 5;
export const RUN_BITS: u32 = HARDENED ? 6 : 5;
/** The distance from one Run to the next, in bytes. */
export const RUN_STEP: usize = 1 << RUN_BITS;

/**
 * The allocator's state begins with the fields of this class, followed by:
 *
 *     bins            Bin[END_BIN]           indexed by kind
 *     metadata pages  usize[2]               first and last of the ring of metadata pages that have spare Runs
 *     noRun           Run                    what pages that belong to no run point to in the page map
 *     metadata        Run                    what metadata pages, which are made of Runs, point to there
 *     map             usize                  the page map: for each page from address 0, the address of its Run
 *     binOf           usize[SMALL_MAX/4+1]   by small size in words, the Bin; with caches, the offset of its cell
 *
 * Threads read `map` and `binOf` without the lock. `noRun` and `metadata`, which hardly ever change, lie in front of
 * them to keep what is written under the lock off their cache lines.
 */
@unmanaged
export class State {
  /**
   * Sizes below this one are looked up in `binOf`: SMALL_MAX + 1, less the tail of a slot in a hardened build; 0 before
   * the first allocation, and always in a compact build.
   */
  smallEnd: usize;
  /** MAGIC, for tools that inspect the heap from outside; 0 before the first allocation. */
  magic: u32;
  /** Head of the list of runs with an event; 0 ends the list. */
  events: usize;
  /**
   * Addresses of the bits that tell which pages are free, and of the grades of their words (src/free-pages.ts); compact
   * builds have no grades.
   */
  free: usize;
  grades: usize;
  /** Where a search begins: the address of the grades, eight at a time, of the heap's first words. */
  firstGrades: usize;
  /** First page of the heap. */
  start: u32;
  /** The page after the heap's last. */
  end: u32;
  /** Number of pages that the page map has room for. */
  capacity: u32;
  /**
   * No page from this one on was ever handed out: they are fresh linear memory, all zero. In a compact build: no page
   * before this one is free.
   */
  fresh: u32;
  /** Number of pages in bins and large blocks, and the largest it ever was. */
  used: u32;
  peak: u32;
  /** Head of the list of all thread caches, for tools that inspect the heap from outside; 0 if there are none. */
  caches: usize;
}

export const BIN_TABLE: usize = (offsetof<State>() + 15) & ~15;
export const METADATA_PAGES: usize = BIN_TABLE + ((<usize>END_BIN) << BIN_BITS);
export const NO_RUN: usize = (METADATA_PAGES + 2 * sizeof<usize>() + 15) & ~15;
export const METADATA: usize = NO_RUN + RUN_STEP;
export const MAP: usize = METADATA + RUN_STEP;
export const BIN_OF: usize = MAP + sizeof<usize>();
const SHARED: usize = BIN_OF + SMALL_MAX + sizeof<usize>();

/** Padding that keeps contended words off the cache lines that all threads read: some processors fetch two at once. */
const LINES: usize = 128;

/** The lock of src/lock.ts, an i32, followed by the shared state of src/caches.ts. Only in builds for threads. */
export const LOCK: usize = (SHARED + LINES + 15) & ~15;
export const CACHES: usize = LOCK + LINES;
/** u64[BATCH_STACKS][END_BIN], each row on cache lines of its own: the stacks of src/batches.ts. */
export const BATCHES: usize = CACHES + LINES;
/** Stacks per bin, a power of two: up to this many threads have stacks to themselves. */
export const BATCH_STACKS: u32 = 4;
export const BATCH_ROW: usize = <usize>END_BIN * 8 + LINES;
/** An empty cache that stands in for the missing cache of a thread that has none. Only zeros are ever written there. */
export const NO_CACHE: usize = (BATCHES + <usize>BATCH_STACKS * BATCH_ROW + 15) & ~15;
/** log2 of the size in bytes of a cell: the part of a cache that belongs to one kind. */
export const CACHE_BIN_BITS: u32 = 4;
export const CACHE_SIZE: usize = (<usize>END_BIN) << CACHE_BIN_BITS;
/** The first bin whose slots can hold the two links of a batch: with caches, no smaller slots are handed out. */
export const LEAST_BIN: u32 = CACHED ? FIRST_BIN + 1 : FIRST_BIN;
/** Offset of the reserve in a cell. NONE has no reserve: its cell has the address of the next cache there. */
export const CACHE_RESERVE: usize = 8;

/** All hardened builds reserve space for the lock, so that they share one layout. */
const PLAIN_SIZE: usize = CACHED ? NO_CACHE + CACHE_SIZE : LOCKED || HARDENED ? CACHES : SHARED;

/** Additional state of a hardened build, followed by the arrays below. */
@unmanaged
export class Guards {
  /** An odd number from the host, which determines the order in which slots are handed out. */
  random: u64;
  /** What trailers are XORed with (src/guards.ts), in part from the host. 0 before the first run is handed out. */
  secret: u32;
  /** The fault that ended the program: address of its message, the pointer, and the block's size if it is known. */
  faultMessage: usize;
  faultBlock: usize;
  faultSize: usize;
  /** Address of a page that stays zero, the first, which would otherwise adjoin the heap's own data; 0 if none. */
  wall: usize;
  /** Where the next slot goes in the quarantines of small and of other slots: offsets in bytes. */
  smallNext: u32;
  mediumNext: u32;
  /** Index in GONE of the entry for the next large block that is freed. */
  goneNext: u32;
  /** Index of the zero-size block to try next, and the end of those that were ever handed out. */
  zeroNext: u32;
  zeroEver: u32;
}

export const GUARDS: usize = (PLAIN_SIZE + 15) & ~15;
/** usize[]: a ring buffer of freed slots of up to SMALL_MAX bytes, followed by one of larger slots. */
export const QUARANTINE: usize = GUARDS + offsetof<Guards>();
export const SMALL_QUARANTINE: u32 = 64;
export const MEDIUM_QUARANTINE: u32 = 8;
export const QUARANTINE_SLOTS: u32 = SMALL_QUARANTINE + MEDIUM_QUARANTINE;
/** usize[]: a ring buffer of the addresses of the large blocks that were freed last. */
export const GONE: usize = QUARANTINE + <usize>QUARANTINE_SLOTS * 4;
export const GONE_BLOCKS: u32 = 64;
/** One bit for each zero-size block: whether it is in use. */
export const ZERO_BLOCKS: usize = GONE + <usize>GONE_BLOCKS * 4;
export const ZERO_BLOCK_COUNT: u32 = 4096;

export const STATE_SIZE: usize = HARDENED ? ZERO_BLOCKS + ZERO_BLOCK_COUNT / 8 : PLAIN_SIZE;

/**
 * Address of the state, which the linker or the host places in memory, zeroed. What is added to it to form the address
 * of a load must not be negative, because the sum may become the load's offset (docs/object-format.md).
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
