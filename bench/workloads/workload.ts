/** A list of calls to an allocator. Blocks are identified by slots: numbers that are reused once a block is freed. */
export interface Workload {
  readonly name: string;
  /** One line for the report: what the program is and does. */
  readonly about: string;
  /** The group that the workload counts towards. */
  readonly group: Group;
  /** Two words per operation; bench/c/workload.h has a drawing. */
  readonly ops: Uint32Array;
  /** The most blocks that are live at one time. Slots are numbered from 0 to slots - 1. */
  readonly slots: number;
}

export const groups = {
  small: "recorded from programs that use mostly small blocks",
  large: "recorded from programs with large buffers",
  synthetic: "generated, to cover what those programs do not do",
} as const;

export type Group = keyof typeof groups;

/** The kinds of operation, numbered as in bench/c/workload.h. */
export const Op = { malloc: 0, free: 1, calloc: 2, realloc: 3, aligned: 4 } as const;

export const opNames = ["malloc", "free", "calloc", "realloc", "posix_memalign"] as const;

/** Returns the first word of an operation. The second is the size or, for `aligned`, an `alignedWord`. */
export function operation(kind: number, slot: number): number {
  return (slot << 3) | kind;
}

/** The inverse of `operation`. */
export function kindAndSlot(word: number): [kind: number, slot: number] {
  return [word & 7, word >>> 3];
}

const ALIGNMENT_SHIFT = 27;
const MAX_ALIGNED_SIZE = 2 ** ALIGNMENT_SHIFT - 1;

/** Returns the second word of an aligned operation. Throws a RangeError if the size does not fit. */
function alignedWord(alignmentBits: number, size: number): number {
  if (size > MAX_ALIGNED_SIZE)
    throw new RangeError(`an aligned block of ${size} bytes does not fit a workload`);
  return (alignmentBits << ALIGNMENT_SHIFT) | size;
}

/** The inverse of `alignedWord`. */
export function alignmentBitsAndSize(word: number): [alignmentBits: number, size: number] {
  return [word >>> ALIGNMENT_SHIFT, word & MAX_ALIGNED_SIZE];
}

/** Collects operations. Blocks are represented by their slots; the slot freed last is reused first. */
export interface Recorder {
  malloc(size: number): number;
  calloc(size: number): number;
  aligned(alignment: number, size: number): number;
  realloc(slot: number, size: number): void;
  free(slot: number): void;
  /** Number of calls so far. */
  readonly calls: number;
  /** Frees all live blocks, so that the workload can be replayed repeatedly, and returns it. */
  finish(name: string, group: Group, about: string): Workload;
}

export function recorder(): Recorder {
  let words = new Uint32Array(1 << 16);
  let used = 0;
  let slots = 0;
  const freeSlots: number[] = [];
  const alive = new Set<number>();

  function push(kind: number, slot: number, word: number): void {
    if (used === words.length) {
      const larger = new Uint32Array(words.length * 2);
      larger.set(words);
      words = larger;
    }
    words[used++] = operation(kind, slot);
    words[used++] = word;
  }

  function take(kind: number, word: number): number {
    const slot = freeSlots.pop() ?? slots++;
    alive.add(slot);
    push(kind, slot, word);
    return slot;
  }

  function release(slot: number): void {
    if (!alive.delete(slot)) throw new Error(`slot ${slot} has no block`);
    freeSlots.push(slot);
    push(Op.free, slot, 0);
  }

  return {
    malloc: (size) => take(Op.malloc, size),
    calloc: (size) => take(Op.calloc, size),
    aligned: (alignment, size) => take(Op.aligned, alignedWord(31 - Math.clz32(alignment), size)),
    realloc(slot, size) {
      if (!alive.has(slot)) throw new Error(`slot ${slot} has no block`);
      push(Op.realloc, slot, size);
    },
    free: release,
    get calls() {
      return used / 2;
    },
    finish(name, group, about) {
      for (const slot of alive) release(slot);
      return { name, group, about, ops: words.slice(0, used), slots };
    },
  };
}
