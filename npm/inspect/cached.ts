/** Finds the free slots outside the runs' lists: those that builds for threads keep in caches and batches (src/caches.ts). */
import type { Layout } from "./layout.ts";

/** Reads fields of the state and words of memory, unsigned; outside memory words are 0. */
export interface CacheSource {
  readonly layout: Layout;
  readonly field: (offset: number) => number;
  readonly word: (address: number) => number;
}

/** Calls `count` with each of these slots. If it returns false, there can be no such slot: the rest of the list is skipped. */
export function countCached({ layout, field, word }: CacheSource, count: (slot: number) => boolean): void {
  const { FIRST_BIN, SLOT_SIZES, STATE_CACHES, MOST_CACHES, CACHE_CELL, CACHE_RESERVE } = layout;
  const { BATCHES, BATCH_STACKS, BATCH_ROW, NEXT_BATCH } = layout;
  const follow = (first: number): boolean => {
    for (let slot = first; slot !== 0; slot = word(slot)) if (!count(slot)) return false;
    return true;
  };
  const kinds = SLOT_SIZES.map((_, bin) => FIRST_BIN + bin);
  const seen = new Set<number>();
  // The link to the next cache is where kind NONE, which has no slots, would have its reserve. A damaged list may be long.
  for (
    let cache = field(STATE_CACHES);
    cache !== 0 && !seen.has(cache) && seen.size < MOST_CACHES;
    cache = word(cache + CACHE_RESERVE)
  ) {
    seen.add(cache);
    for (const kind of kinds) {
      follow(word(cache + kind * CACHE_CELL));
      follow(word(cache + kind * CACHE_CELL + CACHE_RESERVE));
    }
  }
  // Without caches there are no batches, and something else may follow the state.
  if (seen.size === 0) return;
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
