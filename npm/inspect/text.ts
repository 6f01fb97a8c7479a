/** Formats reports for a terminal. */
import {
  formatAddress,
  formatBytes,
  formatCount,
  formatKiB,
  formatShare,
  formatTime,
  plural,
} from "./format.ts";
import { summarizeLarge } from "./large.ts";
import type { LeakReport } from "./leaks.ts";
import { namesHint } from "./names.ts";
import type { HeapReport, Region } from "./reader.ts";
import { MOST_FRAMES, NO_HEAP, describeEnd, describeFault, type RunReport, type Sample } from "./report.ts";

const MAP_COLUMNS = 72;
const MAP_ROWS = 24;
const MOST_SITES = 20;

export function formatText(report: RunReport): string {
  const { program, args, heaps, memory, ms, peak, leaks, problem } = report;
  return [
    `${[program, ...args].join(" ")}: ${describeEnd(report.end)} after ${formatTime(ms)}`,
    ...("stack" in report.end ? [...stackLines(report.end.stack), ...namesHint(report.end.stack)] : []),
    `linear memory ${formatBytes(memory)}; most in use ${formatBytes(peak)} (sampled)`,
    ...(problem === undefined ? [] : [problem]),
    ...(heaps.length === 0 && problem === undefined ? [`no heap: ${NO_HEAP}`] : []),
    ...heaps.flatMap((heap) => ["", ...heapLines(heap)]),
    ...(leaks ? ["", ...leakLines(leaks)] : []),
    "",
  ].join("\n");
}

/** Returns a sample as one line, without a newline. */
export function formatSample({ ms, calls, memory, heap, inUse }: Sample): string {
  const made = calls === undefined ? "" : `  ${formatCount(calls)} calls`;
  return `${formatTime(ms)}${made}  memory ${formatBytes(memory)}  heap ${formatBytes(heap)}  in use ${formatBytes(inUse)}`;
}

function stackLines(stack: readonly string[]): string[] {
  const more = stack.length - MOST_FRAMES;
  return [
    ...stack.slice(0, MOST_FRAMES).map((name) => `    at ${name}`),
    ...(more > 0 ? [`    and ${more} more`] : []),
  ];
}

function heapLines(heap: HeapReport): string[] {
  const { inUse, free, bins, large, freeRuns, damage, fault } = heap;
  const rows = bins.map(({ slotSize, pages, slots, usedSlots, waste, rounding }) => [
    `${slotSize} B`,
    formatCount(pages),
    formatCount(slots),
    formatCount(usedSlots),
    formatBytes(usedSlots * slotSize),
    formatShare(usedSlots, slots),
    formatBytes(rounding + waste),
  ]);
  return [
    `heap ${formatAddress(heap.start)} to ${formatAddress(heap.end)}: ${formatBytes(heap.heap)}, ` +
      `in use ${formatBytes(inUse)} (${formatShare(inUse, heap.heap) || "0 %"}), free ${formatBytes(free)}, ` +
      `peak ${formatBytes(heap.peak)}, page map ${formatBytes(heap.mapSize)}`,
    ...damage.map((line) => `DAMAGED: ${line}`),
    ...(fault ? [`FAULT: ${describeFault(fault)}`] : []),
    "",
    ...(rows.length === 0
      ? []
      : [...table(["slots of", "pages", "slots", "used", "in use", "full", "lost at most"], rows), ""]),
    `${plural(large.blocks, "large block")}, ${formatBytes(large.bytes)}; ` +
      `${plural(freeRuns.runs, "free page run")}, ${formatBytes(freeRuns.bytes)}, the longest ${formatBytes(freeRuns.longest)}`,
    ...largeLines(heap),
    "",
    ...mapLines(heap),
  ];
}

function largeLines(heap: HeapReport): string[] {
  const { first, rest } = summarizeLarge(heap);
  if (first.length === 0) return [];
  const rows = first.map(({ size, blocks, bytes }) => [
    formatKiB(size),
    formatCount(blocks),
    formatBytes(bytes),
  ]);
  return [
    "",
    ...table(["large blocks of", "blocks", "in use"], rows),
    ...(rest
      ? [
          `and ${plural(rest.sizes, "more size")}: ${plural(rest.blocks, "block")}, ${formatBytes(rest.bytes)}`,
        ]
      : []),
  ];
}

function leakLines({ blocks, bytes, calls, sites }: LeakReport): string[] {
  const more = sites.length - MOST_SITES;
  return [
    `${plural(blocks, "block")} (${formatBytes(bytes)}) never freed, from ${plural(sites.length, "place")}; ${plural(calls, "call")} in total`,
    ...namesHint(sites.flatMap(({ stack }) => stack)),
    ...sites
      .slice(0, MOST_SITES)
      .flatMap((site) => [
        "",
        `${formatBytes(site.bytes)} in ${plural(site.blocks, "block")}`,
        ...stackLines(site.stack),
      ]),
    ...(more > 0 ? ["", `and ${plural(more, "more place")}`] : []),
  ];
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const all = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  return all.map((row) => row.map((cell, column) => cell.padStart(widths[column]!)).join("  "));
}

/** Characters for what pages are used for. */
const SYMBOLS: Readonly<Record<Region["serves"], string>> = {
  other: " ",
  map: "m",
  free: ".",
  large: "#",
  slots: "",
};
/** Characters for runs of slots: up to a quarter in use, up to a half, and so on. */
const FILL = "-=+*";

function symbolOf({ serves, slots = 1, usedSlots = 0 }: Region): string {
  return SYMBOLS[serves] || FILL[Math.min(Math.floor((usedSlots / slots) * FILL.length), FILL.length - 1)]!;
}

function mapLines(heap: HeapReport): string[] {
  const first = heap.start / heap.pageSize;
  const pages = heap.end / heap.pageSize - first;
  const each = Math.max(1, Math.ceil(pages / (MAP_COLUMNS * MAP_ROWS)));
  const cells = Array.from({ length: Math.ceil(pages / each) }, () => new Map<string, number>());
  for (const region of heap.regions) {
    const symbol = symbolOf(region);
    const start = region.address / heap.pageSize - first;
    for (let page = start; page < start + region.pages;) {
      const cell = Math.floor(page / each);
      const next = Math.min((cell + 1) * each, start + region.pages);
      cells[cell]!.set(symbol, (cells[cell]!.get(symbol) ?? 0) + next - page);
      page = next;
    }
  }
  const line = cells.map(
    (cell) => [...cell].reduce((most, entry) => (entry[1] > most[1] ? entry : most), ["?", 0])[0],
  );
  const rows = Array.from({ length: Math.ceil(line.length / MAP_COLUMNS) }, (_, row) =>
    line.slice(row * MAP_COLUMNS, (row + 1) * MAP_COLUMNS).join(""),
  );
  const scale = each === 1 ? "a page" : `${each} pages`;
  return [
    `each character is ${scale} of ${formatBytes(heap.pageSize)}: - = + * slots, by how full they are; # large block; . free; m page map`,
    ...rows,
  ];
}
