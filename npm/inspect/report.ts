/** What `inspect` tells of a program's run. Sizes in bytes, times in milliseconds since the program's start. */
import { formatAddress, formatTime } from "./format.ts";
import type { Layout } from "./layout.ts";
import type { LeakReport } from "./leaks.ts";
import { readHeaps, type HeapReport } from "./reader.ts";

/** All the heaps of a memory together, at one moment of the run. */
export interface Sample {
  readonly ms: number;
  /** Calls of allocation functions so far; only known of a traced program. */
  readonly calls?: number;
  /** Linear memory, in whole. */
  readonly memory: number;
  readonly heap: number;
  readonly inUse: number;
}

export type End =
  | { readonly exitCode: number }
  /** The engine's message and its stack trace, innermost function first. */
  | { readonly trap: string; readonly stack: readonly string[] }
  /** It was ended after so many milliseconds. */
  | { readonly timeLimit: number };

/** What is in a memory at one moment. */
export interface Look {
  readonly heaps: readonly HeapReport[];
  /** Why the heaps could not be read: one line. */
  readonly problem?: string;
}

export interface RunReport extends Look {
  readonly program: string;
  readonly args: readonly string[];
  readonly end: End;
  readonly ms: number;
  readonly memory: number;
  /** The most bytes in use in any sample. */
  readonly peak: number;
  readonly timeline: readonly Sample[];
  readonly leaks?: LeakReport;
}

/** Something with a memory's bytes, which move when it grows: a WebAssembly.Memory, or what has the `buffer` of one. */
export type MemorySource = { readonly buffer: ArrayBufferLike };

/** `readHeaps`, with its refusal as a part of the answer. */
export function lookAt(memory: MemorySource | undefined, layouts: readonly Layout[]): Look {
  try {
    return { heaps: memory ? readHeaps(memory.buffer, layouts) : [] };
  } catch (error) {
    return { heaps: [], problem: (error as Error).message };
  }
}

/** The numbers of a Sample for some heaps. */
export function totals(heaps: readonly HeapReport[]): Pick<Sample, "heap" | "inUse"> {
  return heaps.reduce((sum, { heap, inUse }) => ({ heap: sum.heap + heap, inUse: sum.inUse + inUse }), {
    heap: 0,
    inUse: 0,
  });
}

export function describeEnd(end: End): string {
  if ("trap" in end) return `trapped (${end.trap})`;
  if ("timeLimit" in end) return `was ended by the time limit of ${formatTime(end.timeLimit)}`;
  return `ended with exit code ${end.exitCode}`;
}

export function describeFault({ message, block, size }: NonNullable<HeapReport["fault"]>): string {
  return `${message}: ${formatAddress(block)}${size === 0 ? "" : `, of ${size} bytes`}`;
}
