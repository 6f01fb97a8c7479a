import { geometricMean, ratioPairs, type Measured, type Results, type WorkloadResult } from "../results.ts";
import { groups } from "../workloads/workload.ts";

/** Prints what was measured: for each measure a table with a row for each workload and one for each group. */
export function printTables(results: Results): void {
  for (const { name, title } of results.engines) {
    const times = (row: WorkloadResult) => row.times[name] ?? {};
    printMeasure(`ns per call, net of the loop: ${title}`, results, times, (ns) => ns.toFixed(2));
  }
  if (results.workloads.some(({ costs }) => Object.keys(costs).length > 0)) {
    for (const [key, title] of [
      ["mean", "instructions per call"],
      ["slowest", "instructions of the slowest 0.1 % of calls, at least"],
      ["worst", "instructions of the slowest malloc, aligned allocation or free"],
    ] as const) {
      const costs = (row: WorkloadResult) =>
        Object.fromEntries(Object.entries(row.costs).map(([peer, cost]) => [peer, cost[key]]));
      printMeasure(title, results, costs, (n) => n.toFixed(key === "mean" ? 1 : 0));
    }
  }
  printMeasure(
    "peak linear memory, KiB",
    results,
    (row) => row.peaks,
    (bytes) => String(bytes / 1024),
  );
  if (Object.keys(results.sizes).length > 0) printSizes(results);
}

function printMeasure(
  title: string,
  { peers, workloads }: Results,
  values: (row: WorkloadResult) => Readonly<Record<string, Measured>>,
  format: (value: number) => string,
): void {
  const faults: string[] = [];
  const rows = workloads.map((row) => [
    row.name,
    ...peers.map((peer) => {
      const value = values(row)[peer];
      if (typeof value === "string") faults.push(`${peer} on ${row.name}: ${value}`);
      return value === undefined ? "-" : typeof value === "number" ? format(value) : "fails";
    }),
  ]);
  const subject = peers[0]!;
  for (const group of Object.keys(groups)) {
    const inGroup = workloads.filter((row) => row.group === group);
    if (inGroup.length === 0) continue;
    const ratios = peers.map((peer) => geometricMean(ratioPairs(inGroup, values, subject, peer)));
    rows.push([`${subject} / peer, ${group}`, ...ratios.map((ratio) => ratio?.toFixed(2) ?? "-")]);
  }
  printTable(title, [["", ...peers], ...rows]);
  for (const fault of faults) console.log(`  ${fault}`);
}

function printSizes({ peers, sizes }: Results): void {
  const rows = (
    [
      ["api", "whole interface"],
      ["apiGzipped", "the same, gzipped"],
      ["pair", "malloc and free alone"],
      ["pairGzipped", "the same, gzipped"],
    ] as const
  ).map(([key, title]) => [title, ...peers.map((peer) => String(sizes[peer]?.[key] ?? "-"))]);
  printTable("bytes of code and data that a program gains", [["", ...peers], ...rows]);
}

function printTable(title: string, rows: readonly (readonly string[])[]): void {
  console.log(`\n${title}`);
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  for (const row of rows) {
    const [first, ...others] = row;
    console.log(
      first!.padEnd(widths[0]!) + others.map((cell, i) => cell.padStart(widths[i + 1]! + 2)).join(""),
    );
  }
}
