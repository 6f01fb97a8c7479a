// The layout of the heap in memory, for tools that inspect it from outside. An entry of its own: the build compiles it
// separately and writes what it exports to lib/layout.json.

import { Bin } from "./bins";
import { BIN_BITS, CACHE_BIN_BITS, GUARDS, Guards, HARDENED as hardened, State } from "./config";
import { Run } from "./pages";

export {
  BATCHES,
  BATCH_ROW,
  BATCH_STACKS,
  BINS,
  BIN_OF,
  BIN_TABLE,
  CACHE_RESERVE,
  FIRST_BIN,
  METADATA_PAGES,
  METADATA,
  LARGE,
  LAST_PAGE,
  LOCK,
  MAGIC,
  MAP as STATE_MAP,
  NO_RUN,
  NONE,
  PAGE_BITS,
  QUARANTINE,
  QUARANTINE_SLOTS,
  RUN_STEP,
  SMALL_MAX,
  STATE_SIZE,
} from "./config";
export { QUEUED } from "./bins";
export { RUNS_END } from "./pages";

// Offsets of fields, in bytes.
export const STATE_SMALL_END: usize = offsetof<State>("smallEnd");
export const STATE_MAGIC: usize = offsetof<State>("magic");
export const STATE_EVENTS: usize = offsetof<State>("events");
export const STATE_START: usize = offsetof<State>("start");
export const STATE_END: usize = offsetof<State>("end");
export const STATE_CAPACITY: usize = offsetof<State>("capacity");
export const STATE_FRESH: usize = offsetof<State>("fresh");
export const STATE_USED: usize = offsetof<State>("used");
export const STATE_FREE: usize = offsetof<State>("free");
export const STATE_GRADES: usize = offsetof<State>("grades");
export const STATE_PEAK: usize = offsetof<State>("peak");
export const STATE_CACHES: usize = offsetof<State>("caches");
/** The size of a cell, the part of a thread cache that belongs to one kind, in bytes. */
export const CACHE_CELL: usize = 1 << CACHE_BIN_BITS;

/** The distance from one Bin to the next, in bytes. */
export const BIN_STEP: usize = 1 << BIN_BITS;

export const RUN_FREE: usize = offsetof<Run>("free");
export const RUN_LEFT: usize = offsetof<Run>("left");
export const RUN_EVENT: usize = offsetof<Run>("event");
export const RUN_NEXT: usize = offsetof<Run>("next");
export const RUN_PREV: usize = offsetof<Run>("prev");
export const RUN_START: usize = offsetof<Run>("start");
export const RUN_SIZE: usize = offsetof<Run>("size");
export const RUN_KIND: usize = offsetof<Run>("kind");
export const RUN_SLOTS: usize = offsetof<Run>("slots");

export const BIN_FIRST: usize = offsetof<Bin>("first");
export const BIN_FRESH: usize = offsetof<Bin>("fresh");
export const BIN_FRESH_END: usize = offsetof<Bin>("freshEnd");
export const BIN_SIZE: usize = offsetof<Bin>("size");
export const BIN_PAGES: usize = offsetof<Bin>("pages");

/** 1 in a hardened build, which has the quarantine and the fault's fields; 0 in others. */
export const HARDENED: u32 = u32(hardened);
export const FAULT_MESSAGE: usize = GUARDS + offsetof<Guards>("faultMessage");
export const FAULT_BLOCK: usize = GUARDS + offsetof<Guards>("faultBlock");
export const FAULT_SIZE: usize = GUARDS + offsetof<Guards>("faultSize");

export { NEXT_BATCH } from "./batches";
export { MOST_CACHES } from "./caches";
export { TAIL_SIZE } from "./guards";
export { SMALLEST_SLOT } from "./hardened";
export { FREE_BITS, OTHER_FREE_BITS } from "./free-slots";
export { slotSize } from "./size-classes";
export { BEST, END_GRADES, WORD_PAGES } from "./free-pages";
