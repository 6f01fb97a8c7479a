/** The report on a program's run. Sizes are in bytes, times in milliseconds since the program's start. */
import { formatAddress, formatTime } from "./format.ts";
import type { Layout } from "./layout.ts";
import type { LeakReport } from "./leaks.ts";
import { readHeaps, type HeapReport } from "./reader.ts";

/** Totals of all heaps in a memory at one moment of the run. */
export interface Sample {
  readonly ms: number;
  /** Calls to allocation functions so far; traced programs only. */
  readonly calls?: number;
  /** Size of linear memory. */
  readonly memory: number;
  readonly heap: number;
  readonly inUse: number;
}

export type End =
  | { readonly exitCode: number }
  /** The engine's message and its stack trace, innermost function first; an uncaught exception has no stack. */
  | { readonly trap: string; readonly stack: readonly string[] }
  /** Stopped after this many milliseconds. */
  | { readonly timeLimit: number };

/** The heaps in a memory at one moment. */
export interface Look {
  readonly heaps: readonly HeapReport[];
  /** One line that says why the heaps could not be read. */
  readonly problem?: string;
}

export interface RunReport extends Look {
  readonly program: string;
  readonly args: readonly string[];
  readonly end: End;
  readonly ms: number;
  readonly memory: number;
  /** The most bytes in use in any of the samples, including those that the timeline does not keep. */
  readonly peak: number;
  readonly timeline: readonly Sample[];
  readonly leaks?: LeakReport;
}

/** A WebAssembly.Memory, or anything else whose `buffer` is the present buffer of one; it changes when memory grows. */
export type MemorySource = { readonly buffer: ArrayBufferLike };

/** Like `readHeaps`, but returns the error as part of the result. */
export function lookAt(memory: MemorySource | undefined, layouts: readonly Layout[]): Look {
  try {
    return { heaps: memory ? readHeaps(memory.buffer, layouts) : [] };
  } catch (error) {
    return { heaps: [], problem: (error as Error).message };
  }
}

/** Returns the totals of some heaps, as in a Sample. */
export function totals(heaps: readonly HeapReport[]): Pick<Sample, "heap" | "inUse"> {
  return heaps.reduce((sum, { heap, inUse }) => ({ heap: sum.heap + heap, inUse: sum.inUse + inUse }), {
    heap: 0,
    inUse: 0,
  });
}

/** The most frames of a call stack that are listed, or shown before it is expanded. */
export const MOST_FRAMES = 12;

/** Why a memory may hold no heap. */
export const NO_HEAP = "nothing was allocated, or not with rsbmalloc";

export function describeEnd(end: End): string {
  if ("trap" in end) return `trapped (${end.trap})`;
  if ("timeLimit" in end) return `stopped by the time limit of ${formatTime(end.timeLimit)}`;
  return `exited with code ${end.exitCode}`;
}

export function describeFault({ message, block, size }: NonNullable<HeapReport["fault"]>): string {
  return `${message}: ${formatAddress(block)}${size === 0 ? "" : `, of ${size} bytes`}`;
}
