/** Sums up the large blocks in a heap's report by size. */
import { groupBy } from "./group.ts";
import type { HeapReport } from "./reader.ts";

/** The large blocks of one size. Sizes are in bytes, in whole pages. */
export interface LargeSize {
  readonly size: number;
  readonly blocks: number;
  /** Total size of these blocks. */
  readonly bytes: number;
}

/** Totals of several sizes. */
export interface LargeRest {
  readonly sizes: number;
  readonly blocks: number;
  readonly bytes: number;
}

/** How many sizes reports list individually. */
const MOST_SIZES = 10;

/** Returns the large blocks of a heap by size, largest total first; of equal totals, the larger size. */
export function largeSizes({ regions, pageSize }: Pick<HeapReport, "regions" | "pageSize">): LargeSize[] {
  const blocks = regions.filter(({ serves }) => serves === "large");
  return [...groupBy(blocks, ({ pages }) => `${pages}`).values()]
    .map((same): LargeSize => {
      const size = same[0]!.pages * pageSize;
      return { size, blocks: same.length, bytes: same.length * size };
    })
    .sort((a, b) => b.bytes - a.bytes || b.size - a.size);
}

/** Returns the first of `largeSizes`, and the totals of the others if there are any. */
export function summarizeLarge(heap: Pick<HeapReport, "regions" | "pageSize">): {
  readonly first: readonly LargeSize[];
  readonly rest?: LargeRest;
} {
  const all = largeSizes(heap);
  const others = all.slice(MOST_SIZES);
  const sum = (of: (size: LargeSize) => number): number =>
    others.reduce((total, size) => total + of(size), 0);
  return {
    first: all.slice(0, MOST_SIZES),
    ...(others.length === 0
      ? {}
      : {
          rest: {
            sizes: others.length,
            blocks: sum(({ blocks }) => blocks),
            bytes: sum(({ bytes }) => bytes),
          },
        }),
  };
}
