/** The large blocks of a heap by size: what the regions of its report say of them. */
import { groupBy } from "./group.ts";
import type { HeapReport } from "./reader.ts";

/** Large blocks of one size. Sizes in bytes, whole pages. */
export interface LargeSize {
  readonly size: number;
  readonly blocks: number;
  /** All of them together. */
  readonly bytes: number;
}

/** Of some sizes together. */
export interface LargeRest {
  readonly sizes: number;
  readonly blocks: number;
  readonly bytes: number;
}

/** How many sizes the reports show one by one. */
const MOST_SIZES = 10;

/** Most bytes first, and of as many bytes the larger size. */
export function largeSizes({ regions, pageSize }: Pick<HeapReport, "regions" | "pageSize">): LargeSize[] {
  const blocks = regions.filter(({ serves }) => serves === "large");
  return [...groupBy(blocks, ({ pages }) => `${pages}`).values()]
    .map((same): LargeSize => {
      const size = same[0]!.pages * pageSize;
      return { size, blocks: same.length, bytes: same.length * size };
    })
    .sort((a, b) => b.bytes - a.bytes || b.size - a.size);
}

/** The first of `largeSizes`, and the others as one if there are any. */
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
