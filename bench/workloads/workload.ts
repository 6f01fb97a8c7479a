/** A workload: a list of calls of an allocator, on blocks that are known by the number of their slot. */
export interface Workload {
  readonly name: string;
  /** One line for the report: which program, doing what. */
  readonly about: string;
  /** What the workload counts for: see `groups`. */
  readonly group: Group;
  /** Two words for each operation, as bench/c/workload.h draws them. */
  readonly ops: Uint32Array;
  /** The most blocks alive at one time: slots are numbered from 0 to slots - 1. */
  readonly slots: number;
}

export const groups = {
  small: "traces of programs that live on small blocks",
  large: "traces of programs with large buffers",
  synthetic: "made by rule, for what real traces miss",
} as const;

export type Group = keyof typeof groups;

/** The kinds of operation, numbered as in bench/c/workload.h. */
export const Op = { malloc: 0, free: 1, calloc: 2, realloc: 3, aligned: 4 } as const;

export const opNames = ["malloc", "free", "calloc", "realloc", "posix_memalign"] as const;

/** An operation's first word. The second is a size, for `aligned` an `alignedWord`. */
export function operation(kind: number, slot: number): number {
  return (slot << 3) | kind;
}

/** What `operation` put together. */
export function kindAndSlot(word: number): [kind: number, slot: number] {
  return [word & 7, word >>> 3];
}

const ALIGNMENT_SHIFT = 27;
const MAX_ALIGNED_SIZE = 2 ** ALIGNMENT_SHIFT - 1;

/** An aligned operation's second word. Throws a RangeError for a size that does not fit. */
export function alignedWord(alignmentBits: number, size: number): number {
  if (size > MAX_ALIGNED_SIZE)
    throw new RangeError(`an aligned block of ${size} bytes does not fit a workload`);
  return (alignmentBits << ALIGNMENT_SHIFT) | size;
}

/** What `alignedWord` put together. */
export function alignmentBitsAndSize(word: number): [alignmentBits: number, size: number] {
  return [word >>> ALIGNMENT_SHIFT, word & MAX_ALIGNED_SIZE];
}

/** Collects operations; blocks are handles, which `free` ends. Slots are reused, the last freed one first. */
export interface Recorder {
  malloc(size: number): number;
  calloc(size: number): number;
  aligned(alignment: number, size: number): number;
  realloc(slot: number, size: number): void;
  free(slot: number): void;
  /** Calls recorded so far. */
  readonly calls: number;
  /** Frees what is still alive, so that a workload can be replayed again and again, and returns the workload. */
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
    if (!alive.delete(slot)) throw new Error(`slot ${slot} is not alive`);
    freeSlots.push(slot);
    push(Op.free, slot, 0);
  }

  return {
    malloc: (size) => take(Op.malloc, size),
    calloc: (size) => take(Op.calloc, size),
    aligned: (alignment, size) => take(Op.aligned, alignedWord(31 - Math.clz32(alignment), size)),
    realloc(slot, size) {
      if (!alive.has(slot)) throw new Error(`slot ${slot} is not alive`);
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
