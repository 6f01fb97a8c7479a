/**
 * Formats reports as HTML: one self-contained page, and its parts, for pages that show a running heap (live.ts). Every
 * number on the page has its exact value in `data-value` and its name in `data-key`.
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
import { namesHint } from "./names.ts";
import type { HeapReport, Region } from "./reader.ts";
import {
  MOST_FRAMES,
  NO_HEAP,
  describeEnd,
  describeFault,
  type Look,
  type RunReport,
  type Sample,
} from "./report.ts";

/** Sizes in SVG units. */
const CELL = 10;
const CHART = { width: 960, height: 220 };
/** Largest size of a page's cell in the map, in pixels. */
const MOST_CELL = 16;
/** Up to this number of regions, each has its own tooltip; a larger map is drawn with one path per colour. */
const MOST_TOOLTIPS = 10_000;
const MOST_SITES = 100;

export const STYLE = `
.heap { --ink: #1c2530; --soft: #66717f; --paper: #fff; --line: #dfe4ea; --free: #e3e8ee; --idle: #c3ced9; --grown: #b9cbe0;
  --used: #3a76b8; --large: #7a4fbf; --map: #3a4654; --bad: #c4372b; color: var(--ink); font: 14px/1.45 system-ui, sans-serif; }
@media (prefers-color-scheme: dark) {
  .heap { --ink: #e6ebf0; --soft: #9aa6b4; --paper: #14191f; --line: #2e3741; --free: #27303a; --idle: #46525f; --grown: #38516d;
    --used: #5f9fe0; --large: #a583e0; --map: #8694a3; --bad: #ff8175; }
}
.heap h1, .heap p { overflow-wrap: anywhere; } .heap h1 { font-size: 24px; margin: 8px 0 4px; }
.heap h2 { font-size: 18px; margin: 32px 0 8px; } .heap h3 { font-size: 15px; margin: 24px 0 6px; } .heap a { color: var(--used); }
.heap .facts { display: flex; flex-wrap: wrap; gap: 8px 28px; margin: 12px 0; }
.heap .facts div { display: flex; flex-direction: column-reverse; justify-content: flex-end; }
.heap dt { color: var(--soft); font-size: 12px; } .heap dd { margin: 0; font-size: 20px; font-variant-numeric: tabular-nums; }
.heap svg { display: block; width: 100%; box-sizing: border-box; } .heap .map { height: auto; border: 1px solid var(--line); }
.heap .plot { position: relative; margin: 12px 0 0 72px; border-bottom: 1px solid var(--soft); } .heap .chart { height: 200px; }
.heap .plot span { position: absolute; right: 100%; margin-right: 8px; transform: translateY(50%); white-space: nowrap; }
.heap .plot line { stroke: var(--ink); stroke-opacity: .15; vector-effect: non-scaling-stroke; }
.heap .times { display: flex; justify-content: space-between; margin-left: 72px; }
.heap .plot span, .heap .times, .heap .legend { color: var(--soft); font-size: 12px; }
.heap .legend { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 8px 0; padding: 0; list-style: none; }
.heap .legend i { display: inline-block; width: 10px; height: 10px; margin-right: 5px; border: 1px solid var(--line); vertical-align: -1px; }
.heap .legend .ramp { width: 70px; }
.heap .share { display: flex; height: 18px; background: var(--free); border: 1px solid var(--line); } .heap .share i { min-width: 0; }
.heap .scroll { overflow-x: auto; } .heap table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.heap th, .heap td { padding: 3px 18px 3px 0; text-align: right; white-space: nowrap; vertical-align: top; border-bottom: 1px solid var(--line); }
.heap th { color: var(--soft); font-weight: normal; font-size: 12px; vertical-align: bottom; } .heap .idle td { color: var(--soft); }
.heap td b { display: inline-block; width: 3.8em; font-weight: normal; }
.heap .bar { display: inline-block; width: 80px; height: 8px; background: var(--free); } .heap .bar i { display: block; height: 8px; }
.heap .stack { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 240px; }
.heap ol { margin: 0; padding: 0; list-style: none; font: 12px/1.6 ui-monospace, monospace; } .heap details { font-size: 12px; }
.heap .damage { color: var(--bad); font-weight: 600; }
@media (max-width: 600px) { .heap .bar { display: none; } .heap th, .heap td { padding-right: 10px; } .heap .stack { min-width: 150px; } }
`;

/** Returns the whole report as a page. */
export function formatHtml(report: RunReport): string {
  const { program, args, end, ms, memory, peak, timeline, leaks, heaps } = report;
  const title = [program, ...args].join(" ");
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Heap of ${escape(title)}</title>
<style>body { margin: 0 auto; padding: 16px 24px 48px; max-width: 1100px; background: var(--paper); }${STYLE}</style>
<body class="heap">
<h1>${escape(title)}</h1>
<p${"trap" in end ? ' class="damage"' : ""}>${escape(describeEnd(end))} after ${formatTime(ms)}${heaps.map(({ fault }) => (fault ? `: ${escape(describeFault(fault))}` : "")).join("")}</p>
${"stack" in end ? formatStack(end.stack) + formatHint(end.stack) : ""}
${leaks ? `<p><a href="#leaks">${leaks.blocks === 0 ? "Every block was freed" : `${plural(leaks.blocks, "block")} (${formatBytes(leaks.bytes)}) never freed, from ${plural(leaks.sites.length, "place")}`}</a></p>` : ""}
${facts([bytesFact("memory", "linear memory", memory), bytesFact("peak", "most in use (sampled)", peak)])}
${formatLook(report, timeline)}
${leaks ? formatLeaks(leaks) : ""}
</body>
</html>
`;
}

/** Formats the heaps in a memory, and their history. */
export function formatLook({ heaps, problem }: Look, timeline: readonly Sample[]): string {
  return `${problem === undefined ? "" : `<p class="damage">${escape(problem)}</p>`}
${heaps.length === 0 && problem === undefined ? `<p>No heap: ${NO_HEAP}.</p>` : ""}
<h2>Timeline</h2>
${formatTimeline(timeline)}
${heaps.map(formatHeap).join("\n")}`;
}

/** Formats a heap: its totals, map, bins and large blocks. */
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
${formatShares(heap)}
<h3>Map</h3>
${formatMap(heap)}
<h3>Bins</h3>
${formatBins(heap)}
${formatLarge(heap)}
</section>`;
}

/** Formats a bar that shows what the heap's bytes are used for. */
function formatShares({ heap, inUse, bins, large, freeRuns }: HeapReport): string {
  const parts = [
    ...bins.map(({ slotSize, usedSlots }) => ({
      bytes: usedSlots * slotSize,
      colour: hue(slotSize),
      name: `slots of ${slotSize} B`,
    })),
    { bytes: large.bytes, colour: "var(--large)", name: "large blocks" },
    { bytes: heap - inUse - freeRuns.bytes, colour: "var(--idle)", name: "free in bins" },
    { bytes: freeRuns.bytes, colour: "var(--free)", name: "free page runs" },
  ].filter(({ bytes }) => bytes > 0);
  const bar = parts.map(
    ({ bytes, colour, name }) =>
      `<i style="flex: ${bytes}; background: ${colour}" title="${name}: ${formatBytes(bytes)}"></i>`,
  );
  const item = (key: string, name: string, bytes: number): string =>
    `${name} ${value(key, bytes, formatBytes(bytes))}, ${formatShare(bytes, heap) || "0 %"}`;
  return `<div class="share">${bar.join("")}</div>
${legend([
  [RAMP, item("inSlots", "in slots", inUse - large.bytes)],
  ["var(--large)", item("inLarge", "in large blocks", large.bytes)],
  ["var(--idle)", item("idle", "free in bins", heap - inUse - freeRuns.bytes)],
  ["var(--free)", item("inRuns", "in free page runs", freeRuns.bytes)],
])}`;
}

/** Formats a chart of linear memory, the heap and the bytes in use over time. */
export function formatTimeline(timeline: readonly Sample[]): string {
  const { width, height } = CHART;
  const last = timeline.at(-1);
  const end = last?.ms || 1;
  const top = Math.max(1, ...timeline.map(({ memory }) => memory));
  const x = (ms: number): string => ((ms / end) * width).toFixed(1);
  const y = (bytes: number): string => (height - (bytes / top) * height).toFixed(1);
  const area = (of: (sample: Sample) => number, colour: string): string => {
    const points = timeline.map((sample) => `L${x(sample.ms)} ${y(of(sample))}`).join("");
    return `<path fill="${colour}" d="M0 ${height}${points}V${height}Z"/>`;
  };
  // Two or three lines: at a power of two, its double and its triple.
  const step = 2 ** Math.floor(Math.log2(top) - 1);
  const marks = [0, 1, 2, 3].map((count) => count * step).filter((bytes) => bytes <= top);
  const lines = marks.slice(1).map((bytes) => `<line x2="${width}" y1="${y(bytes)}" y2="${y(bytes)}"/>`);
  const names = marks.map(
    (bytes) => `<span style="bottom: ${((100 * bytes) / top).toFixed(1)}%">${formatBytes(bytes)}</span>`,
  );
  const now = (bytes: number | undefined): string => (bytes === undefined ? "" : ` ${formatBytes(bytes)}`);
  return `<div class="plot">${names.join("")}
<svg class="chart" viewBox="0 0 ${width} ${height}" preserveAspectRatio="none" role="img" aria-label="the heap over time">
${area(({ memory }) => memory, "var(--free)")}
${area(({ heap }) => heap, "var(--grown)")}
${area(({ inUse }) => inUse, "var(--used)")}
${lines.join("")}
</svg></div>
<div class="times"><span>0</span><span>${formatTime(end)}</span></div>
${legend([
  ["var(--free)", `linear memory${now(last?.memory)}`],
  ["var(--grown)", `heap${now(last?.heap)}`],
  ["var(--used)", `in use${now(last?.inUse)}`],
  [undefined, value("samples", timeline.length, plural(timeline.length, "sample"))],
])}`;
}

/** Formats a map of the heap with one cell per page, in rows by ascending address. */
export function formatMap(heap: HeapReport): string {
  const first = heap.start / heap.pageSize;
  const pages = heap.end / heap.pageSize - first;
  const columns = Math.min(256, Math.max(32, Math.ceil(Math.sqrt(pages * 3))));
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
  // Lines between the pages of a run are fainter than those between runs.
  const grid = `grid-${heap.state}`;
  return `<svg class="map" data-key="pages" data-value="${pages}" viewBox="0 0 ${columns * CELL} ${rows * CELL}" style="max-width: ${columns * MOST_CELL}px" role="img" aria-label="heap map">
${paths.join("\n")}
<pattern id="${grid}" width="${CELL}" height="${CELL}" patternUnits="userSpaceOnUse"><rect x="${CELL - 1}" width="1" height="${CELL}" fill="var(--paper)" fill-opacity=".5"/></pattern>
<rect width="100%" height="100%" fill="url(#${grid})" pointer-events="none"/>
</svg>
${legend([
  [RAMP, "slots of 4 B to 16 KiB; the paler, the fewer in use"],
  ["var(--large)", "large block"],
  ["var(--free)", "free"],
  ["var(--map)", "page map"],
  ["transparent", "not part of the heap"],
])}`;
}

/** Returns the path of rectangles for pages that can span several rows. */
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

/** Returns a slot size's colour, from blue for the smallest to red for the largest. */
function hue(slotSize: number): string {
  return `hsl(${Math.round(220 - (Math.log2(slotSize) - 2) * 17)} 70% 50%)`;
}

/** The colours of slots, from small to large, as a gradient. */
const RAMP = `linear-gradient(90deg, ${[4, 32, 256, 2048, 16384].map(hue).join(", ")})`;

function fill({ serves, slotSize = 0, slots = 1, usedSlots = 0 }: Region): string {
  if (serves !== "slots") return `fill="var(--${serves})"`;
  // In steps, so that a large map has few colours.
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
      `${bar}<b>${formatShare(usedSlots, slots)}</b>`,
      value("rounding", rounding, formatBytes(rounding)),
      value("waste", waste, formatBytes(waste)),
    ];
    return `<tr data-bin="${slotSize}"${usedSlots === 0 ? ' class="idle"' : ""}>${shown.map((cell) => `<td>${cell}</td>`).join("")}</tr>`;
  });
  const head = [
    "slots of",
    "pages",
    "slots",
    "used",
    "in use",
    "full",
    "lost to rounding (at most)",
    "after the last slot",
  ];
  return formatTable(head, rows);
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
${formatTable(["blocks of", "blocks", "in use"], rows)}`;
}

function formatLeaks({ blocks, bytes, calls, sites }: LeakReport): string {
  const rows = sites.slice(0, MOST_SITES).map((site) => {
    const share = (100 * site.bytes) / Math.max(bytes, 1);
    return (
      `<tr><td>${value("siteBytes", site.bytes, formatBytes(site.bytes))}</td><td>${value("siteBlocks", site.blocks)}</td>` +
      `<td><span class="bar"><i style="width: ${share}%; background: var(--used)"></i></span><b>${formatShare(site.bytes, bytes)}</b></td>` +
      `<td class="stack">${formatStack(site.stack)}</td></tr>`
    );
  });
  const more = sites.length - MOST_SITES;
  return `<section data-leaks id="leaks">
<h2>Never freed</h2>
${facts([
  countFact("leakedBlocks", "blocks", blocks),
  bytesFact("leakedBytes", "bytes requested", bytes),
  countFact("calls", "calls to allocation functions", calls),
  countFact("sites", "places", sites.length),
])}
${formatHint(sites.flatMap(({ stack }) => stack))}
${rows.length === 0 ? "" : formatTable(["size", "blocks", "share", "called from"], rows)}
${more > 0 ? `<p>and ${plural(more, "more place")}</p>` : ""}
</section>`;
}

/** Formats a call stack, innermost function first. */
function formatStack(stack: readonly string[]): string {
  const list = (frames: readonly string[]): string =>
    `<ol>${frames.map((name) => `<li>${escape(name)}</li>`).join("")}</ol>`;
  const more = stack.slice(MOST_FRAMES);
  return `${list(stack.slice(0, MOST_FRAMES))}${more.length > 0 ? `<details><summary>and ${more.length} more</summary>${list(more)}</details>` : ""}`;
}

function formatHint(stack: readonly string[]): string {
  return namesHint(stack)
    .map((line) => `<p>${escape(line)}</p>`)
    .join("");
}

function formatTable(head: readonly string[], rows: readonly string[]): string {
  const names = head.map((name) => `<th${name === "called from" ? ' class="stack"' : ""}>${name}</th>`);
  return `<div class="scroll"><table><tr>${names.join("")}</tr>${rows.join("\n")}</table></div>`;
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

/** Formats the key to the colours; an item without a colour is a remark. */
function legend(items: readonly (readonly [string | undefined, string])[]): string {
  const swatch = (colour: string): string =>
    `<i${colour === RAMP ? ' class="ramp"' : ""} style="background: ${colour}"></i>`;
  const parts = items.map(
    ([colour, name]) => `<li>${colour === undefined ? "" : swatch(colour)}${name}</li>`,
  );
  return `<ul class="legend">${parts.join("")}</ul>`;
}

const ENTITIES: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };

function escape(text: string): string {
  return text.replace(/[&<>"]/g, (character) => ENTITIES[character]!);
}
