/** Where the allocator keeps what in memory: the contents of lib/layout.json, which the build takes from the core. */
export interface Layout {
  readonly PAGE_BITS: number;
  readonly MAGIC: number;
  readonly STATE_SIZE: number;

  // What a run of pages serves, its kind.
  readonly NONE: number;
  readonly LARGE: number;
  readonly FIRST_BIN: number;

  // Offsets in the state, in bytes.
  readonly STATE_MAGIC: number;
  readonly STATE_MAP: number;
  readonly STATE_START: number;
  readonly STATE_END: number;
  readonly STATE_CAPACITY: number;
  readonly STATE_PEAK: number;
  /** Addresses of the bits of free pages and of the grades of their words, which lie behind the map's entries. */
  readonly STATE_FREE: number;
  readonly STATE_GRADES: number;
  /** The Run that pages lead to which are in no run. */
  readonly NO_RUN: number;
  readonly METADATA: number;
  /** A Bin for each kind, NONE being the first. */
  readonly BIN_TABLE: number;

  /** How many pages a word of those bits is about, and how many grades follow theirs. */
  readonly WORD_PAGES: number;
  readonly END_GRADES: number;

  // What is known of a run of pages, its Run: bytes from one to the next, and offsets. `kind` and `slots` are 16 bits each.
  readonly RUN_STEP: number;
  /** Where the Runs end in a page that is made of them. */
  readonly RUNS_END: number;
  readonly RUN_FREE: number;
  readonly RUN_LEFT: number;
  readonly RUN_EVENT: number;
  readonly RUN_START: number;
  readonly RUN_SIZE: number;
  readonly RUN_KIND: number;
  readonly RUN_SLOTS: number;
  /** What `left` has more while the run waits for something to be done. */
  readonly QUEUED: number;

  // What is known of a bin, likewise.
  readonly BIN_STEP: number;
  readonly BIN_FRESH: number;
  readonly BIN_FRESH_END: number;

  /** 1 for a hardened build, 0 for others. What follows holds for hardened builds alone. */
  readonly HARDENED: number;
  /** Offsets in the Run of a run of slots: 64 bits each for those that are free. */
  readonly FREE_BITS: number;
  readonly OTHER_FREE_BITS: number;
  // Offsets in the state, in bytes.
  /** Addresses of slots that were freed and are held back; 0 in between. */
  readonly QUARANTINE: number;
  readonly QUARANTINE_SLOTS: number;
  /** What the program did wrong: the address of a text, a pointer, and the size of the block or 0. */
  readonly FAULT_MESSAGE: number;
  readonly FAULT_BLOCK: number;
  readonly FAULT_SIZE: number;

  /** First of the thread caches, 0 where there are none; and what they and the stacks of batches have of a kind of page. */
  readonly STATE_CACHES: number;
  readonly CACHE_CELL: number;
  readonly CACHE_RESERVE: number;
  readonly BATCHES: number;
  readonly BATCH_STACKS: number;
  readonly BATCH_ROW: number;
  /** An i32 that is 0 while nobody holds the lock. */
  readonly LOCK: number;
  readonly NEXT_BATCH: number;

  /** By bin, the first being FIRST_BIN. */
  readonly SLOT_SIZES: readonly number[];
}
