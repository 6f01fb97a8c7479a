/** Tables as text. */
import type { Table } from "./tables.ts";

/** Formats a table as text, with the first column left-aligned and the others right-aligned. */
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
