/** Where the allocator keeps what in memory: the contents of lib/layout.json, which the build takes from the core. */
export interface Layout {
  readonly PAGE_BITS: number;
  /** log2 of the pages of a region, whose infos lie together. */
  readonly REGION_BITS: number;
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

  // What the map holds of a page: size and offsets in bytes.
  readonly INFO_SIZE: number;
  readonly INFO_PAGES: number;
  readonly INFO_FREE: number;

  // By bin.
  readonly SLOT_SIZES: readonly number[];
  readonly RUN_PAGES: readonly number[];
}
