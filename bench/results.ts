import type { CallCosts } from "./calls.ts";
import type { CodeSize } from "./code-size.ts";
import type { Group } from "./workloads/workload.ts";

/** What one run measured: what --json prints. */
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

/** Which memory bugs allocators catch. */
export interface BugResults {
  readonly peers: readonly string[];
  readonly rows: readonly BugResult[];
}

export interface BugResult {
  readonly name: string;
  /** By peer. */
  readonly caught: Record<string, boolean>;
}

/** What programs that the same emcc built take as a whole. */
export interface EmscriptenResults {
  /** The release of emcc. */
  readonly title: string;
  readonly peers: readonly string[];
  readonly engines: readonly { readonly name: string; readonly title: string }[];
  readonly programs: ProgramResult[];
}

/** What several threads that use one heap take. */
export interface ThreadResults {
  /** The release of emcc. */
  readonly title: string;
  readonly peers: readonly string[];
  readonly rows: readonly ThreadResult[];
}

/** Where a number is missing there is a line that says what went wrong. */
export type Measured = number | string;

/** What every row of a table has. */
export interface Row {
  readonly name: string;
  readonly about: string;
  readonly group: Group | "threads";
}

/** A workload with a number of threads, which its name ends with. */
export interface ThreadResult extends Row {
  /** Nanoseconds of the wall clock for each malloc and its free, net of the loop, by peer. */
  readonly times: Record<string, Measured>;
  /** The same for the driving loop by itself. The control has nothing else. */
  readonly loop?: Measured | undefined;
  /** Bytes of the heap in the end, threads' stacks apart, by peer. */
  readonly heaps: Record<string, Measured>;
}

export interface ProgramResult extends Row {
  /** Bytes of the .wasm, by peer. */
  readonly sizes: Record<string, number>;
  /** The most that malloc took from the system, in bytes, by peer. */
  readonly peaks: Record<string, Measured>;
  /** Milliseconds of the shortest run, by engine and peer. */
  readonly times: Record<string, Readonly<Record<string, Measured>>>;
}

export interface WorkloadResult extends Row {
  readonly calls: number;
  /** Peak linear memory in bytes, by peer. */
  readonly peaks: Record<string, Measured>;
  /** Instructions of its calls, by peer. */
  readonly costs: Record<string, CallCosts>;
  /** Nanoseconds for one call, net of the loop, by engine and peer. */
  readonly times: Record<string, Readonly<Record<string, Measured>>>;
}

/** The geometric mean of a / b over the pairs in which both are numbers; undefined where there is none. */
export function geometricMean(pairs: readonly (readonly [Measured | undefined, Measured | undefined])[]) {
  const logs = pairs.flatMap(([a, b]) =>
    typeof a === "number" && typeof b === "number" && a > 0 && b > 0 ? [Math.log(a / b)] : [],
  );
  return logs.length === 0 ? undefined : Math.exp(logs.reduce((sum, log) => sum + log, 0) / logs.length);
}

/** For geometricMean: what two peers have, row by row. */
export function ratioPairs<T extends Row>(
  rows: readonly T[],
  values: (row: T) => Readonly<Record<string, Measured>>,
  subject: string,
  peer: string,
): (readonly [Measured | undefined, Measured | undefined])[] {
  return rows.map((row) => [values(row)[subject], values(row)[peer]]);
}

/** What the subject has, as a multiple of the least that any of the others has. */
export function againstBest(
  values: Readonly<Record<string, Measured>>,
  subject: string,
  others: readonly string[],
): number | undefined {
  const own = values[subject];
  const best = Math.min(...others.map((name) => values[name]).filter((value) => typeof value === "number"));
  return typeof own === "number" && Number.isFinite(best) && best > 0 ? own / best : undefined;
}
