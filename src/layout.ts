// The layout of the heap in memory, for those who look at it from outside. An entry of its own: the build compiles it
// beside the core and writes what it exports to lib/layout.json.

import { Info } from "./pages";
import { CACHE_BIN_BITS, GUARDS, Guards, HARDENED as hardened, State } from "./config";

export {
  BATCHES,
  BINS,
  BIN_MAX,
  BIN_OF,
  CACHE_RESERVE,
  FIRST_BIN,
  FREE,
  FRESH,
  LARGE,
  LAST_PAGE,
  LISTS,
  MAGIC,
  NONE,
  PAGE_BITS,
  PARTIAL,
  QUARANTINE,
  QUARANTINE_SLOTS,
  RUNS,
  RUN_LISTS,
  SMALL_MAX,
  STATE_SIZE,
} from "./config";

// Offsets of fields, in bytes.
export const STATE_RUN_BITS: usize = offsetof<State>("runBits");
export const STATE_MAGIC: usize = offsetof<State>("magic");
export const STATE_KINDS: usize = offsetof<State>("kinds");
export const STATE_START: usize = offsetof<State>("start");
export const STATE_END: usize = offsetof<State>("end");
export const STATE_CAPACITY: usize = offsetof<State>("capacity");
export const STATE_FRESH: usize = offsetof<State>("fresh");
export const STATE_USED: usize = offsetof<State>("used");
export const STATE_PEAK: usize = offsetof<State>("peak");
export const STATE_CACHES: usize = offsetof<State>("caches");
/** What a thread cache has of a kind of page, in bytes. */
export const CACHE_CELL: usize = 1 << CACHE_BIN_BITS;

export const INFO_SIZE: usize = offsetof<Info>();
export const INFO_PAGES: usize = offsetof<Info>("pages");
export const INFO_NEXT: usize = offsetof<Info>("next");
export const INFO_PREV: usize = offsetof<Info>("prev");
export const INFO_FREE: usize = offsetof<Info>("free");

/** 1 in a hardened build, which has the quarantine and what follows; 0 in others. */
export const HARDENED: u32 = u32(hardened);
export const FAULT_MESSAGE: usize = GUARDS + offsetof<Guards>("faultMessage");
export const FAULT_BLOCK: usize = GUARDS + offsetof<Guards>("faultBlock");
export const FAULT_SIZE: usize = GUARDS + offsetof<Guards>("faultSize");

export { NEXT_BATCH } from "./batches";
export { slotSize } from "./size-classes";
export { REGION_BITS, runClass } from "./pages";
export { runPages } from "./bins";
