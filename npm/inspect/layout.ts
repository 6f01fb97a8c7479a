/** Where the allocator keeps what in memory: the contents of lib/layout.json, which the build takes from the core. */
export interface Layout {
  readonly PAGE_BITS: number;
  readonly MAGIC: number;
  readonly STATE_SIZE: number;

  // Kinds of page, as the page map has them.
  readonly NONE: number;
  readonly FREE: number;
  readonly LARGE: number;
  readonly FIRST_BIN: number;

  // Offsets in the state, in bytes.
  readonly STATE_MAGIC: number;
  readonly STATE_KINDS: number;
  readonly STATE_START: number;
  readonly STATE_END: number;
  readonly STATE_CAPACITY: number;
  readonly STATE_USED: number;
  readonly STATE_PEAK: number;
  readonly LISTS: number;

  /** log2 of the pages of a region, whose Infos lie together. */
  readonly REGION_BITS: number;

  // What is known of a page, its Info: size and offsets in bytes.
  readonly INFO_SIZE: number;
  readonly INFO_PAGES: number;
  readonly INFO_FREE: number;
  /** A run's slots that were never used are counted in units of this, in the same word as all its free ones. */
  readonly FRESH: number;

  /** 1 for a hardened build, 0 for others. The rest holds for hardened builds alone: offsets in the state. */
  readonly HARDENED: number;
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
  readonly NEXT_BATCH: number;

  // By bin.
  readonly SLOT_SIZES: readonly number[];
  readonly RUN_PAGES: readonly number[];
}
