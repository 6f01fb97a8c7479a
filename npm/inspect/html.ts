/**
 * The report as HTML: one page that needs nothing else, and its parts, for pages that look at a heap that lives
 * (live.ts). Every number that the page shows has its exact value in `data-value` and its name in `data-key`.
 */
import {
  formatAddress,
  formatBytes,
  formatCount,
  formatKiB,
  formatShare,
  formatTime,
  plural,
} from "./format.ts";
import { groupBy } from "./group.ts";
import { summarizeLarge } from "./large.ts";
import type { LeakReport } from "./leaks.ts";
import type { HeapReport, Region } from "./reader.ts";
import { describeEnd, describeFault, type Look, type RunReport, type Sample } from "./report.ts";

/** Of the SVG drawings, in their own units. */
const CELL = 10;
const CHART = { width: 960, height: 220 };
/** Up to here every region of the map has a tooltip of its own; a map of more is drawn with a path for each colour. */
const MOST_TOOLTIPS = 10_000;
const MOST_SITES = 100;

export const STYLE = `
.heap { --ink: #1c2530; --soft: #66717f; --paper: #fff; --line: #dfe4ea; --free: #e9edf1; --large: #7a4fbf; --map: #3a4654;
  color: var(--ink); font: 14px/1.45 system-ui, sans-serif; }
@media (prefers-color-scheme: dark) {
  .heap { --ink: #e6ebf0; --soft: #9aa6b4; --paper: #14191f; --line: #2e3741; --free: #242c35; --large: #a583e0; --map: #8694a3; }
}
.heap h2 { font-size: 18px; margin: 28px 0 8px; } .heap h3 { font-size: 15px; margin: 20px 0 6px; }
.heap .facts { display: flex; flex-wrap: wrap; gap: 8px 28px; margin: 0; }
.heap .facts div { display: flex; flex-direction: column-reverse; }
.heap dt { color: var(--soft); font-size: 12px; } .heap dd { margin: 0; font-size: 20px; font-variant-numeric: tabular-nums; }
.heap svg { display: block; width: 100%; height: auto; } .heap svg text { fill: var(--soft); font-size: 12px; }
.heap .map { border: 1px solid var(--line); } .heap .chart { border-bottom: 1px solid var(--line); }
.heap .legend { display: flex; flex-wrap: wrap; gap: 4px 14px; margin: 6px 0; padding: 0; color: var(--soft); font-size: 12px; list-style: none; }
.heap .legend i { display: inline-block; width: 10px; height: 10px; margin-right: 4px; border: 1px solid var(--line); }
.heap section { overflow-x: auto; } .heap table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.heap th, .heap td { padding: 2px 12px 2px 0; text-align: right; white-space: nowrap; vertical-align: top; border-bottom: 1px solid var(--line); }
.heap th { color: var(--soft); font-weight: normal; } .heap .stack { text-align: left; } .heap td.stack { white-space: normal; overflow-wrap: anywhere; font-family: ui-monospace, monospace; font-size: 12px; }
.heap .bar { display: inline-block; width: 80px; height: 8px; background: var(--free); }
.heap .bar i { display: block; height: 8px; } .heap .damage { color: #c4372b; font-weight: 600; }
`;

/** The whole report as a page. */
export function formatHtml(report: RunReport): string {
  const { program, args, end, ms, memory, peak, timeline, leaks } = report;
  const title = [program, ...args].join(" ");
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Heap of ${escape(title)}</title>
<style>body { margin: 0 auto; padding: 16px 24px 48px; max-width: 1100px; background: var(--paper); }${STYLE}</style>
<body class="heap">
<h1>${escape(title)}</h1>
<p>${escape(describeEnd(end))} after ${formatTime(ms)}</p>
${"stack" in end ? `<ol>${end.stack.map((name) => `<li><code>${escape(name)}</code></li>`).join("")}</ol>` : ""}
${facts([bytesFact("memory", "linear memory", memory), bytesFact("peak", "most in use when looked at", peak)])}
${formatLook(report, timeline)}
${leaks ? formatLeaks(leaks) : ""}
</body>
</html>
`;
}

/** What there is in a memory, and what there was before. */
export function formatLook({ heaps, problem }: Look, timeline: readonly Sample[]): string {
  return `${problem === undefined ? "" : `<p class="damage">${escape(problem)}</p>`}
${heaps.length === 0 && problem === undefined ? "<p>No heap: nothing was allocated, or not by rsbmalloc.</p>" : ""}
<h2>Over the run</h2>
${formatTimeline(timeline)}
${heaps.map(formatHeap).join("\n")}`;
}

/** A heap: its numbers, its map, its bins and its large blocks. */
export function formatHeap(heap: HeapReport): string {
  return `<section data-heap="${heap.state}">
<h2>Heap from ${formatAddress(heap.start)} to ${formatAddress(heap.end)}</h2>
${heap.damage.map((line) => `<p class="damage">Damaged: ${escape(line)}</p>`).join("")}
${heap.fault ? `<p class="damage">Fault: ${escape(describeFault(heap.fault))}</p>` : ""}
${facts([
  bytesFact("heap", "heap", heap.heap),
  bytesFact("inUse", "in use", heap.inUse),
  bytesFact("free", "free", heap.free),
  bytesFact("peak", "peak", heap.peak),
  bytesFact("mapSize", "page map", heap.mapSize),
  countFact("largeBlocks", "large blocks", heap.large.blocks),
  bytesFact("largeBytes", "in large blocks", heap.large.bytes),
  countFact("freeRuns", "free page runs", heap.freeRuns.runs),
  bytesFact("longestRun", "longest free run", heap.freeRuns.longest),
])}
<h3>Map</h3>
${formatMap(heap)}
<h3>Bins</h3>
${formatBins(heap)}
${formatLarge(heap)}
</section>`;
}

/** Linear memory, heap and bytes in use over time. */
export function formatTimeline(timeline: readonly Sample[]): string {
  const { width, height } = CHART;
  const end = timeline.at(-1)?.ms || 1;
  const top = Math.max(1, ...timeline.map(({ memory }) => memory));
  const x = (ms: number): string => ((ms / end) * width).toFixed(1);
  const y = (bytes: number): string => (height - (bytes / top) * height).toFixed(1);
  const area = (of: (sample: Sample) => number, colour: string): string => {
    const points = timeline.map((sample) => `L${x(sample.ms)} ${y(of(sample))}`).join("");
    return `<path fill="${colour}" d="M0 ${height}${points}V${height}Z"/>`;
  };
  return `<svg class="chart" viewBox="0 -18 ${width} ${height + 34}" role="img" aria-label="the heap over time">
${area(({ memory }) => memory, "var(--free)")}
${area(({ heap }) => heap, "#b9cbe0")}
${area(({ inUse }) => inUse, "#3a76b8")}
<text x="0" y="-5">${formatBytes(top)}</text>
<text x="${width}" y="${height + 14}" text-anchor="end">${formatTime(end)}</text>
</svg>
${legend([
  ["var(--free)", "linear memory"],
  ["#b9cbe0", "heap"],
  ["#3a76b8", "in use"],
])}
<p>${value("samples", timeline.length, `${formatCount(timeline.length)} looks at the heap`)}</p>`;
}

/** Every page a cell, in rows of addresses that go up. */
export function formatMap(heap: HeapReport): string {
  const first = heap.start / heap.pageSize;
  const pages = heap.end / heap.pageSize - first;
  const columns = Math.min(256, Math.max(64, Math.ceil(Math.sqrt(pages * 3))));
  const rows = Math.max(1, Math.ceil(pages / columns));
  const outline = (region: Region): string =>
    cells(region.address / heap.pageSize - first, region.pages, columns);
  const drawn = heap.regions.filter(({ serves }) => serves !== "other");
  const paths =
    drawn.length <= MOST_TOOLTIPS
      ? drawn.map(
          (region) =>
            `<path ${fill(region)} d="${outline(region)}"><title>${describeRegion(heap, region)}</title></path>`,
        )
      : [...groupBy(drawn, fill)].map(
          ([colour, regions]) => `<path ${colour} d="${regions.map(outline).join("")}"/>`,
        );
  // Lines between the pages of a run, fainter than those between runs.
  const grid = `grid-${heap.state}`;
  return `<svg class="map" data-key="pages" data-value="${pages}" viewBox="0 0 ${columns * CELL} ${rows * CELL}" role="img" aria-label="heap map">
${paths.join("\n")}
<pattern id="${grid}" width="${CELL}" height="${CELL}" patternUnits="userSpaceOnUse"><rect x="${CELL - 1}" width="1" height="${CELL}" fill="var(--paper)" fill-opacity=".5"/></pattern>
<rect width="100%" height="100%" fill="url(#${grid})" pointer-events="none"/>
</svg>
${legend([
  [hue(4), "slots of few bytes"],
  [hue(16384), "to many, paler where fewer are used"],
  ["var(--large)", "large block"],
  ["var(--free)", "free"],
  ["var(--map)", "page map"],
  ["transparent", "not the heap's"],
])}`;
}

/** Rectangles for pages that go on from row to row. */
function cells(start: number, pages: number, columns: number): string {
  const parts: string[] = [];
  for (let page = start; page < start + pages;) {
    const column = page % columns;
    // Whole rows are one rectangle.
    const left = start + pages - page;
    const rows = column === 0 && left >= columns ? Math.floor(left / columns) : 1;
    const length = rows > 1 ? columns : Math.min(columns - column, left);
    const [width, height] = [length * CELL - 1, rows * CELL - 1];
    parts.push(`M${column * CELL} ${Math.floor(page / columns) * CELL}h${width}v${height}h-${width}z`);
    page += length * rows;
  }
  return parts.join("");
}

/** Blue for the smallest slots to red for the largest. */
function hue(slotSize: number): string {
  return `hsl(${Math.round(220 - (Math.log2(slotSize) - 2) * 17)} 70% 50%)`;
}

function fill({ serves, slotSize = 0, slots = 1, usedSlots = 0 }: Region): string {
  if (serves !== "slots") return `fill="var(--${serves})"`;
  // Steps, so that a large map has few colours.
  return `fill="${hue(slotSize)}" fill-opacity="${0.3 + 0.1 * Math.round((7 * usedSlots) / slots)}"`;
}

function describeRegion(
  { pageSize }: HeapReport,
  { address, pages, serves, slotSize, slots, usedSlots }: Region,
): string {
  const size = formatBytes(pages * pageSize);
  const what = serves === "slots" ? `${usedSlots} of ${slots} slots of ${slotSize} B used` : serves;
  return `${formatAddress(address)}: ${what}, ${size}`;
}

function formatBins({ bins }: HeapReport): string {
  const rows = bins.map(({ slotSize, pages, slots, usedSlots, waste, rounding }) => {
    const bar = `<span class="bar"><i style="width: ${(100 * usedSlots) / slots}%; background: ${hue(slotSize)}"></i></span>`;
    const shown = [
      value("slotSize", slotSize, `${slotSize} B`),
      value("pages", pages),
      value("slots", slots),
      value("usedSlots", usedSlots),
      value("usedBytes", usedSlots * slotSize, formatBytes(usedSlots * slotSize)),
      `${bar} ${formatShare(usedSlots, slots)}`,
      value("rounding", rounding, formatBytes(rounding)),
      value("waste", waste, formatBytes(waste)),
    ];
    return `<tr data-bin="${slotSize}">${shown.map((cell) => `<td>${cell}</td>`).join("")}</tr>`;
  });
  const head = [
    "slots of",
    "pages",
    "slots",
    "used",
    "in use",
    "full",
    "lost to rounding, at most",
    "behind the last slot",
  ];
  return `<table><tr>${head.map((name) => `<th>${name}</th>`).join("")}</tr>${rows.join("\n")}</table>`;
}

function formatLarge(heap: HeapReport): string {
  const { first, rest } = summarizeLarge(heap);
  if (first.length === 0) return "";
  const row = (id: string | number, cells: readonly string[]): string =>
    `<tr data-large="${id}">${cells.map((cell) => `<td>${cell}</td>`).join("")}</tr>`;
  const rows = first.map(({ size, blocks, bytes }) =>
    row(size, [
      value("size", size, formatKiB(size)),
      value("blocks", blocks),
      value("bytes", bytes, formatBytes(bytes)),
    ]),
  );
  if (rest)
    rows.push(
      row("rest", [
        value("sizes", rest.sizes, `and ${plural(rest.sizes, "more size")}`),
        value("blocks", rest.blocks),
        value("bytes", rest.bytes, formatBytes(rest.bytes)),
      ]),
    );
  return `<h3>Large blocks</h3>
<table><tr><th>blocks of</th><th>blocks</th><th>in use</th></tr>${rows.join("\n")}</table>`;
}

function formatLeaks({ blocks, bytes, calls, sites }: LeakReport): string {
  const rows = sites
    .slice(0, MOST_SITES)
    .map(
      (site) =>
        `<tr><td>${value("siteBytes", site.bytes, formatBytes(site.bytes))}</td><td>${value("siteBlocks", site.blocks)}</td>` +
        `<td class="stack">${site.stack.map(escape).join(" &lt; ")}</td></tr>`,
    );
  return `<section data-leaks>
<h2>Never freed</h2>
${facts([
  countFact("leakedBlocks", "blocks", blocks),
  bytesFact("leakedBytes", "as requested", bytes),
  countFact("calls", "calls of allocation functions", calls),
  countFact("sites", "places", sites.length),
])}
<table><tr><th>size</th><th>blocks</th><th class="stack">called from</th></tr>${rows.join("\n")}</table>
</section>`;
}

function value(key: string, exact: number, shown: string = formatCount(exact)): string {
  return `<span data-key="${key}" data-value="${exact}">${shown}</span>`;
}

function facts(items: readonly string[]): string {
  return `<dl class="facts">${items.join("")}</dl>`;
}

function bytesFact(key: string, name: string, bytes: number): string {
  return `<div><dt>${name}</dt><dd>${value(key, bytes, formatBytes(bytes))}</dd></div>`;
}

function countFact(key: string, name: string, count: number): string {
  return `<div><dt>${name}</dt><dd>${value(key, count)}</dd></div>`;
}

function legend(items: readonly (readonly [string, string])[]): string {
  return `<ul class="legend">${items.map(([colour, name]) => `<li><i style="background: ${colour}"></i>${name}</li>`).join("")}</ul>`;
}

const ENTITIES: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };

function escape(text: string): string {
  return text.replace(/[&<>"]/g, (character) => ENTITIES[character]!);
}
