/** What `inspect` tells of a program's run. Sizes in bytes, times in milliseconds since the program's start. */
import { formatAddress } from "./format.ts";
import type { LeakReport } from "./leaks.ts";
import type { HeapReport } from "./reader.ts";

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
  | { readonly trap: string; readonly stack: readonly string[] };

export interface RunReport {
  readonly program: string;
  readonly args: readonly string[];
  readonly end: End;
  readonly ms: number;
  readonly memory: number;
  /** The most bytes in use in any sample. */
  readonly peak: number;
  readonly heaps: readonly HeapReport[];
  /** Why the heaps could not be read. */
  readonly problem?: string;
  readonly timeline: readonly Sample[];
  readonly leaks?: LeakReport;
}

/** The numbers of a Sample for some heaps. */
export function totals(heaps: readonly HeapReport[]): Pick<Sample, "heap" | "inUse"> {
  return heaps.reduce((sum, { heap, inUse }) => ({ heap: sum.heap + heap, inUse: sum.inUse + inUse }), {
    heap: 0,
    inUse: 0,
  });
}

export function describeEnd(end: End): string {
  return "trap" in end ? `trapped (${end.trap})` : `ended with exit code ${end.exitCode}`;
}

export function describeFault({ message, block, size }: NonNullable<HeapReport["fault"]>): string {
  return `${message}: ${formatAddress(block)}${size === 0 ? "" : `, of ${size} bytes`}`;
}
