import { geometricMean, type Measured, type Results } from "../results.ts";
import { groups } from "../workloads/workload.ts";

/** Prints times and peaks, a row for each workload, with rsbmalloc's ratio to each peer as geometric means. */
export function printTables(results: Results): void {
  for (const { name, title } of results.engines) {
    printTable(
      `ns per call, net of the loop: ${title}`,
      results,
      (workload) => workload.times[name] ?? {},
      (ns) => ns.toFixed(2),
    );
  }
  printTable(
    "peak linear memory, KiB",
    results,
    (workload) => workload.peaks,
    (bytes) => String(bytes / 1024),
  );
}

type Row = Results["workloads"][number];

function printTable(
  title: string,
  { peers, workloads }: Results,
  values: (row: Row) => Readonly<Record<string, Measured>>,
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
    const ratios = peers.map((peer) =>
      geometricMean(inGroup.map((row) => [values(row)[subject], values(row)[peer]])),
    );
    rows.push([`${subject} / peer, ${group}`, ...ratios.map((ratio) => ratio?.toFixed(2) ?? "-")]);
  }
  console.log(`\n${title}`);
  for (const line of aligned([["", ...peers], ...rows])) console.log(line);
  for (const fault of faults) console.log(`  ${fault}`);
}

/** The first column to the left, the others to the right. */
function aligned(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    row
      .map((cell, column) =>
        column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]! + 2),
      )
      .join(""),
  );
}
