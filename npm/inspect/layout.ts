/** The layout of the allocator's data: the contents of lib/layout.json, which the build reads from the core. */
export interface Layout {
  readonly PAGE_BITS: number;
  readonly MAGIC: number;
  readonly STATE_SIZE: number;

  // Kinds of runs.
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
  /** Addresses of the bitmap of free pages and of the grades of its words, which follow the map's entries. */
  readonly STATE_FREE: number;
  readonly STATE_GRADES: number;
  /** The Run that stands for no run, and the one that metadata pages point to. */
  readonly NO_RUN: number;
  readonly METADATA: number;
  /** A Bin for each kind, starting with NONE. */
  readonly BIN_TABLE: number;

  /** How many pages a word of the bitmap covers, and how many more grades follow those of its words. */
  readonly WORD_PAGES: number;
  readonly END_GRADES: number;

  // Runs: the distance in bytes from one to the next, and offsets of the fields. `kind` and `slots` have 16 bits each.
  readonly RUN_STEP: number;
  /** Offset of the end of the Runs in a metadata page. */
  readonly RUNS_END: number;
  readonly RUN_FREE: number;
  readonly RUN_LEFT: number;
  readonly RUN_EVENT: number;
  readonly RUN_START: number;
  readonly RUN_SIZE: number;
  readonly RUN_KIND: number;
  readonly RUN_SLOTS: number;
  /** Added to `left` while the run is on the list of events. */
  readonly QUEUED: number;

  // The same for Bins.
  readonly BIN_STEP: number;
  readonly BIN_FRESH: number;
  readonly BIN_FRESH_END: number;
  readonly BIN_SIZE: number;

  /** 1 for a hardened build, 0 for others. The fields up to FAULT_SIZE are for hardened builds only. */
  readonly HARDENED: number;
  /** Offsets in the Run of a run of slots, of 64 bits each that tell which slots are free. */
  readonly FREE_BITS: number;
  readonly OTHER_FREE_BITS: number;
  /** Bytes of a slot that no block can use, and the size of the smallest slots. */
  readonly TAIL_SIZE: number;
  readonly SMALLEST_SLOT: number;
  // Offsets in the state, in bytes.
  /** Addresses of the freed slots in quarantine; 0 in unused places. */
  readonly QUARANTINE: number;
  readonly QUARANTINE_SLOTS: number;
  /** The bug that was found: the address of a text, a pointer, and the size of the block or 0. */
  readonly FAULT_MESSAGE: number;
  readonly FAULT_BLOCK: number;
  readonly FAULT_SIZE: number;

  /** The first thread cache, 0 if there is none; the most that there can be; sizes and offsets within caches and stacks of batches, by kind. */
  readonly STATE_CACHES: number;
  readonly MOST_CACHES: number;
  readonly CACHE_CELL: number;
  readonly CACHE_RESERVE: number;
  readonly BATCHES: number;
  readonly BATCH_STACKS: number;
  readonly BATCH_ROW: number;
  readonly NEXT_BATCH: number;

  /** Slot sizes in bytes, by bin, starting with FIRST_BIN. */
  readonly SLOT_SIZES: readonly number[];
}
