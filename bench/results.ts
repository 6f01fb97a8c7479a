/** The types of what a run measures. */
import type { CallCosts } from "./calls.ts";
import type { CodeSize } from "./code-size.ts";
import type { Group } from "./workloads/workload.ts";

/** The results of a run, as --json prints them. */
export interface Results {
  readonly peers: string[];
  readonly engines: { readonly name: string; readonly title: string }[];
  readonly workloads: WorkloadResult[];
  /** By peer. */
  readonly sizes: Record<string, CodeSize>;
  emscripten?: EmscriptenResults;
  threads?: ThreadResults;
  bugs?: BugResults;
}

/** The memory bugs that each allocator catches. */
export interface BugResults {
  readonly peers: readonly string[];
  readonly rows: readonly BugResult[];
}

export interface BugResult {
  readonly name: string;
  /** By peer. */
  readonly caught: Record<string, boolean>;
}

/** Whole programs, built by the same emcc with each malloc. */
export interface EmscriptenResults {
  /** The release of emcc. */
  readonly title: string;
  readonly peers: readonly string[];
  readonly engines: readonly { readonly name: string; readonly title: string }[];
  readonly programs: ProgramResult[];
}

/** Several threads on one heap. */
export interface ThreadResults {
  /** The release of emcc. */
  readonly title: string;
  readonly peers: readonly string[];
  readonly rows: readonly ThreadResult[];
  /** Bytes that each peer adds to a program that calls the usual seven functions, by kind of program and peer. */
  readonly sizes: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

/** A number, or a line that says what went wrong. */
export type Measured = number | string;

/** What all rows of tables have. */
export interface Row {
  readonly name: string;
  readonly about: string;
  readonly group: Group | "threads";
}

/** A workload with a certain number of threads. The name ends with that number. */
export interface ThreadResult extends Row {
  /** Wall-clock nanoseconds per malloc and its free, without the loop's time, by peer. */
  readonly times: Record<string, Measured>;
  /** The same for the loop alone. Controls have nothing else. */
  readonly loop?: Measured | undefined;
  /** Size of the heap at the end, without the threads' stacks, in bytes, by peer. */
  readonly heaps: Record<string, Measured>;
}

export interface ProgramResult extends Row {
  /** Size of the .wasm in bytes, by peer. */
  readonly sizes: Record<string, number>;
  /** Most bytes that malloc held from the system, by peer. */
  readonly peaks: Record<string, Measured>;
  /** The shortest run in milliseconds, by engine and peer. */
  readonly times: Record<string, Readonly<Record<string, Measured>>>;
}

export interface WorkloadResult extends Row {
  readonly calls: number;
  /** Peak linear memory in bytes, by peer. */
  readonly peaks: Record<string, Measured>;
  /** Instructions of the calls, by peer. */
  readonly costs: Record<string, CallCosts>;
  /** Mispredicted branches per call, by peer. */
  readonly mispredictions: Record<string, number>;
  /** Nanoseconds per call, without the loop's time, by engine and peer. */
  readonly times: Record<string, Readonly<Record<string, Measured>>>;
}
