import type { Table } from "./tables.ts";

/** A table as text: the first column to the left, the others to the right. */
export function terminalTable({ title, header, rows, faults }: Table): string {
  const lines = [header, ...rows];
  const widths = header.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  const text = lines.map(([first, ...others]) =>
    [first!.padEnd(widths[0]!), ...others.map((cell, i) => cell.padStart(widths[i + 1]!))]
      .join("  ")
      .trimEnd(),
  );
  return [title, ...text, ...faults.map((fault) => `  ${fault}`)].join("\n");
}
