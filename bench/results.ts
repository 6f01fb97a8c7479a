import type { Group } from "./workloads/workload.ts";

/** What one run measured: what --json prints. */
export interface Results {
  readonly peers: readonly string[];
  readonly engines: { readonly name: string; readonly title: string }[];
  readonly workloads: WorkloadResult[];
}

/** Where a number is missing there is a line that says what went wrong. */
export type Measured = number | string;

export interface WorkloadResult {
  readonly name: string;
  readonly about: string;
  readonly group: Group;
  readonly calls: number;
  /** Peak linear memory in bytes, by peer. */
  readonly peaks: Readonly<Record<string, Measured>>;
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
