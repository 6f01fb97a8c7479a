/** Turns results into the tables and plots that all reports show. */
import { logAverage } from "simple-statistics";
import type {
  BugResults,
  EmscriptenResults,
  Measured,
  ProgramResult,
  Results,
  Row,
  ThreadResult,
  ThreadResults,
  WorkloadResult,
} from "../results.ts";
import { groups } from "../workloads/workload.ts";

/** One measure: a row for each workload or program, then one for each group, with the mean ratios to the peers. */
export interface Table {
  readonly title: string;
  readonly header: readonly string[];
  readonly rows: readonly (readonly string[])[];
  /** What went wrong in the cells that say `fails`, each in one line. */
  readonly faults: readonly string[];
  readonly chart?: Chart;
}

/** The numbers of a plot: for each peer, a value for each category. */
export interface Chart {
  readonly unit: string;
  readonly categories: readonly string[];
  readonly series: readonly {
    readonly name: string;
    readonly values: readonly (number | undefined)[];
  }[];
}

interface Measure<T extends Row> {
  readonly title: string;
  readonly unit: string;
  readonly values: (row: T) => Readonly<Record<string, Measured>>;
  readonly format: (value: number) => string;
}

/** Returns a table for each measure in the results. */
export function tables(results: Results): Table[] {
  const { peers, workloads, emscripten, threads, bugs } = results;
  const all =
    workloads.length > 0 ? measures(results).map((measure) => rowTable(measure, peers, workloads)) : [];
  if (Object.keys(results.sizes).length > 0) all.push(sizeTable(results));
  if (emscripten) {
    const { peers: mallocs, programs } = emscripten;
    all.push(...emscriptenMeasures(emscripten).map((measure) => rowTable(measure, mallocs, programs)));
  }
  if (threads) {
    const rows = threads.rows.filter(({ times }) => Object.keys(times).length > 0);
    all.push(...threadMeasures(threads).map((measure) => rowTable(measure, threads.peers, rows)));
    all.push(rowTable(loopMeasure(threads), ["loop"], threads.rows));
    if (Object.keys(threads.sizes).length > 0) all.push(threadSizeTable(threads));
  }
  if (bugs) all.push(bugTable(bugs));
  return all;
}

function threadSizeTable({ title, peers: all, sizes }: ThreadResults): Table {
  const peers = all.filter((peer) => Object.values(sizes).some((added) => peer in added));
  return {
    title: `bytes added to a program with threads: ${title}`,
    header: ["", ...peers],
    rows: Object.entries(sizes).map(([kind, added]) => [
      kind,
      ...peers.map((peer) => String(added[peer] ?? "-")),
    ]),
    faults: [],
  };
}

function bugTable({ peers, rows }: BugResults): Table {
  const caught = (peer: string) => rows.filter((row) => row.caught[peer]).length;
  return {
    title: "memory bugs caught",
    header: ["", ...peers],
    rows: [
      ...rows.map((row) => [row.name, ...peers.map((peer) => (row.caught[peer] ? "yes" : "-"))]),
      [`of ${rows.length}`, ...peers.map((peer) => `${Math.round((100 * caught(peer)) / rows.length)} %`)],
    ],
    faults: [],
  };
}

function measures({ engines, workloads }: Results): Measure<WorkloadResult>[] {
  const times = engines.map(({ name, title }) => ({
    title: `ns per call, net of the loop: ${title}`,
    unit: "ns",
    values: (row: WorkloadResult) => row.times[name] ?? {},
    format: (ns: number) => ns.toFixed(2),
  }));
  const memory = {
    title: "peak linear memory, KiB",
    unit: "KiB",
    values: (row: WorkloadResult) => mapNumbers(row.peaks, (bytes) => Math.round(bytes / 1024)),
    format: String,
  };
  const counted = workloads.some(({ costs }) => Object.keys(costs).length > 0);
  const costs = (
    [
      ["mean", "instructions per call"],
      ["slowest", "least instructions of the slowest 0.1 % of calls"],
      ["worst", "instructions of the slowest malloc, aligned allocation or free"],
    ] as const
  ).map(([key, title]) => ({
    title,
    unit: "instructions",
    values: (row: WorkloadResult) =>
      Object.fromEntries(Object.entries(row.costs).map(([peer, cost]) => [peer, cost[key]])),
    format: (n: number) => n.toFixed(key === "mean" ? 1 : 0),
  }));
  const branches = {
    title: "mispredicted branches per call, simulated",
    unit: "mispredictions",
    values: (row: WorkloadResult) => row.mispredictions,
    format: (n: number) => n.toFixed(3),
  };
  const predicted = workloads.some(({ mispredictions }) => Object.keys(mispredictions).length > 0);
  return [...times, memory, ...(counted ? costs : []), ...(predicted ? [branches] : [])];
}

function emscriptenMeasures({ title, engines }: EmscriptenResults): Measure<ProgramResult>[] {
  const times = engines.map((engine) => ({
    title: `ms for a whole program: ${title}, ${engine.title}`,
    unit: "ms",
    values: (row: ProgramResult) => row.times[engine.name] ?? {},
    format: (ms: number) => ms.toFixed(2),
  }));
  const memory = {
    title: `peak heap of a whole program, KiB: ${title}`,
    unit: "KiB",
    values: (row: ProgramResult) => mapNumbers(row.peaks, (bytes) => bytes / 1024),
    format: (kib: number) => kib.toFixed(0),
  };
  const size = {
    title: `bytes of the .wasm: ${title}`,
    unit: "bytes",
    values: (row: ProgramResult) => row.sizes,
    format: String,
  };
  return [...times, memory, size];
}

function threadMeasures({ title }: ThreadResults): Measure<ThreadResult>[] {
  return [
    {
      title: `ns per malloc and its free, net of the loop, by workload and number of threads: ${title}`,
      unit: "ns",
      values: (row) => row.times,
      format: (ns) => ns.toFixed(1),
    },
    {
      title: `heap at the end, KiB: ${title}`,
      unit: "KiB",
      values: (row) => mapNumbers(row.heaps, (bytes) => bytes / 1024),
      format: (kib) => kib.toFixed(0),
    },
  ];
}

function loopMeasure({ title }: ThreadResults): Measure<ThreadResult> {
  return {
    title: `ns per step of the loop alone, and of the controls: ${title}`,
    unit: "ns",
    values: ({ loop }) => (loop === undefined ? {} : { loop }),
    format: (ns) => ns.toFixed(1),
  };
}

function mapNumbers(values: Readonly<Record<string, Measured>>, change: (value: number) => number) {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name, typeof value === "number" ? change(value) : value]),
  );
}

function rowTable<T extends Row>(
  { title, unit, values, format }: Measure<T>,
  peers: readonly string[],
  all: readonly T[],
): Table {
  const [subject = "", ...others] = peers;
  const comparing = others.length > 0;
  const faults: string[] = [];
  const cell = (row: T, peer: string): string => {
    const value = values(row)[peer];
    if (typeof value === "string") faults.push(`${peer} on ${row.name}: ${value}`);
    return value === undefined ? "-" : typeof value === "number" ? format(value) : "fails";
  };
  const rows = all.map((row) => [
    row.name,
    ...peers.map((peer) => cell(row, peer)),
    ...(comparing ? [ratio(againstBest(values(row), subject, others))] : []),
  ]);
  for (const group of [...Object.keys(groups), "threads"]) {
    const inGroup = all.filter((row) => row.group === group);
    if (!comparing || inGroup.length === 0) continue;
    const means = peers.map((peer) =>
      ratio(geometricMean(inGroup.map((row) => [values(row)[subject], values(row)[peer]]))),
    );
    rows.push([`${subject} / peer, ${group}`, ...means, ""]);
  }
  const series = peers.map((name) => ({
    name,
    values: all.map((row) => {
      const value = values(row)[name];
      return typeof value === "number" ? value : undefined;
    }),
  }));
  return {
    title,
    header: ["", ...peers, ...(comparing ? ["/ best"] : [])],
    rows,
    faults,
    chart: { unit, categories: all.map(({ name }) => name), series },
  };
}

/** Returns the geometric mean of a / b over the pairs of two positive numbers; undefined if there is no such pair. */
function geometricMean(
  pairs: readonly (readonly [Measured | undefined, Measured | undefined])[],
): number | undefined {
  const ratios = pairs.flatMap(([a, b]) =>
    typeof a === "number" && typeof b === "number" && a > 0 && b > 0 ? [a / b] : [],
  );
  return ratios.length === 0 ? undefined : logAverage(ratios);
}

/** Returns the subject's value as a multiple of the smallest of the others' values; undefined if either is missing. */
function againstBest(
  values: Readonly<Record<string, Measured>>,
  subject: string,
  others: readonly string[],
): number | undefined {
  const own = values[subject];
  const best = Math.min(...others.map((name) => values[name]).filter((value) => typeof value === "number"));
  return typeof own === "number" && Number.isFinite(best) && best > 0 ? own / best : undefined;
}

function ratio(value: number | undefined): string {
  return value?.toFixed(2) ?? "-";
}

function sizeTable({ peers, sizes }: Results): Table {
  const kinds = [
    ["api", "the usual seven functions"],
    ["apiGzipped", "the same, gzipped"],
    ["pair", "malloc and free alone"],
    ["pairGzipped", "the same, gzipped"],
  ] as const;
  return {
    title: "bytes of code and data added to a program",
    header: ["", ...peers],
    rows: kinds.map(([key, title]) => [title, ...peers.map((peer) => String(sizes[peer]?.[key] ?? "-"))]),
    faults: [],
    chart: {
      unit: "bytes",
      categories: kinds.map(([, title]) => title),
      series: peers.map((name) => ({ name, values: kinds.map(([key]) => sizes[name]?.[key]) })),
    },
  };
}
