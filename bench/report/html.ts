/** The report as a page with plots. */
import * as echarts from "echarts";
import type { Results } from "../results.ts";
import { tables, type Chart, type Table } from "./tables.ts";

const { encodeHTML: escape } = echarts.format;

/** Returns the report as one self-contained HTML file. Plots are SVG, without scripts. */
export function htmlReport(results: Results): string {
  const about = results.workloads.map(
    ({ name, group, calls, about }) =>
      `<tr><td>${name}</td><td>${group}</td><td class="number">${calls}</td><td>${escape(about)}</td></tr>`,
  );
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>rsbmalloc compared with other allocators</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
  table { border-collapse: collapse; font-size: 13px; margin: 0.5rem 0 2rem; }
  th, td { padding: 0.15rem 0.7rem; border-bottom: 1px solid #ddd; text-align: left; }
  .number { text-align: right; font-variant-numeric: tabular-nums; }
  svg { max-width: 100%; height: auto; }
  details { margin-bottom: 2rem; }
</style>
<h1>rsbmalloc compared with other allocators</h1>
<p>Smaller is better everywhere. A time is the best of many short samples, taken of all allocators in turn in one process. The
time of the same loop with an allocator that does nothing is subtracted. Instructions are WebAssembly instructions that were
executed; memory.copy and memory.fill count as one per 16 bytes. Programs built by emcc run as a whole, in Node and in
Chromium. See docs/performance.md for details.</p>
${tables(results).map(section).join("\n")}
<h2>Workloads</h2>
<table><tr><th>name</th><th>group</th><th>calls</th><th>description</th></tr>
${about.join("\n")}
</table>
</html>
`;
}

function section(table: Table): string {
  const cells = (tag: string, [first, ...others]: readonly string[]) =>
    `<tr><${tag}>${escape(first!)}</${tag}>${others.map((c) => `<${tag} class="number">${escape(c)}</${tag}>`).join("")}</tr>`;
  return `<h2>${escape(table.title)}</h2>
${table.chart ? plot(table.chart) : ""}
<details><summary>numbers</summary>
<table>${cells("th", table.header)}
${table.rows.map((row) => cells("td", row)).join("\n")}
</table></details>
${table.faults.map((fault) => `<p>${escape(fault)}</p>`).join("\n")}`;
}

const WIDTH = 1200;
const HEIGHT = 420;

/** Draws a group of bars for each category. The scale is logarithmic: equal ratios look equal everywhere. */
function plot({ unit, categories, series }: Chart): string {
  const numbers = series.flatMap(({ values }) => values.filter((value): value is number => (value ?? 0) > 0));
  if (numbers.length === 0) return "";
  const chart = echarts.init(null, null, { renderer: "svg", ssr: true, width: WIDTH, height: HEIGHT });
  chart.setOption({
    animation: false,
    // Without a browser, the width of text is only estimated: a larger gap keeps a name clear of the next one's marker.
    legend: { top: 0, itemGap: 30 },
    grid: { left: 80, right: 10, top: 40, bottom: 90 },
    xAxis: { type: "category", data: [...categories], axisLabel: { rotate: 40, interval: 0 } },
    yAxis: { type: "log", name: unit, min: 10 ** Math.floor(Math.log10(Math.min(...numbers))) },
    series: series.map(({ name, values }) => ({
      name,
      type: "bar",
      barGap: "5%",
      // A logarithmic scale has no 0.
      data: values.map((value) => (value ? value : "-")),
    })),
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return svg;
}
