/** Finds the free slots outside the runs' lists: those that builds for threads keep in caches and batches (src/caches.ts). */
import type { Layout } from "./layout.ts";

/** Reads fields of the state and words of memory, unsigned; outside memory words are 0. */
export interface CacheSource {
  readonly layout: Layout;
  readonly field: (offset: number) => number;
  readonly word: (address: number) => number;
}

/** Returns the addresses of the thread caches; none in builds without them. */
export function cachesOf({ layout, field, word }: CacheSource): ReadonlySet<number> {
  const { STATE_CACHES, MOST_CACHES, CACHE_RESERVE } = layout;
  const caches = new Set<number>();
  // The link to the next cache is where kind NONE, which has no slots, would have its reserve. A damaged list may be long.
  for (
    let cache = field(STATE_CACHES);
    cache !== 0 && !caches.has(cache) && caches.size < MOST_CACHES;
    cache = word(cache + CACHE_RESERVE)
  )
    caches.add(cache);
  return caches;
}

/** Returns the size of a cache in bytes: it has a cell for each kind. */
export function cacheSize({ FIRST_BIN, SLOT_SIZES, CACHE_CELL }: Layout): number {
  return (FIRST_BIN + SLOT_SIZES.length) * CACHE_CELL;
}

/** Calls `count` with each of these slots. If it returns false, there can be no such slot: the rest of the list is skipped. */
export function countCached(source: CacheSource, count: (slot: number) => boolean): void {
  const { layout, field, word } = source;
  const { FIRST_BIN, SLOT_SIZES, CACHE_CELL, CACHE_RESERVE } = layout;
  const { BATCHES, BATCH_STACKS, BATCH_ROW, NEXT_BATCH } = layout;
  const follow = (first: number): boolean => {
    for (let slot = first; slot !== 0; slot = word(slot)) if (!count(slot)) return false;
    return true;
  };
  const kinds = SLOT_SIZES.map((_, bin) => FIRST_BIN + bin);
  const caches = cachesOf(source);
  for (const cache of caches) {
    for (const kind of kinds) {
      follow(word(cache + kind * CACHE_CELL));
      follow(word(cache + kind * CACHE_CELL + CACHE_RESERVE));
    }
  }
  // Without caches there are no batches, and something else may follow the state.
  if (caches.size === 0) return;
  for (let stack = 0; stack < BATCH_STACKS; stack++) {
    for (const kind of kinds) {
      for (let batch = field(BATCHES + stack * BATCH_ROW + 8 * kind); batch !== 0;) {
        const next = word(batch + NEXT_BATCH);
        if (!follow(batch)) break;
        batch = next;
      }
    }
  }
}
