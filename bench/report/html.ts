import * as echarts from "echarts";
import type { Results } from "../results.ts";
import { tables, type Chart, type Table } from "./tables.ts";

/** The whole report as one file that needs nothing else: plots are drawings, not scripts. */
export function htmlReport(results: Results): string {
  const about = results.workloads.map(
    ({ name, group, calls, about }) =>
      `<tr><td>${name}</td><td>${group}</td><td class="number">${calls}</td><td>${escape(about)}</td></tr>`,
  );
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>rsbmalloc beside its peers</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
  table { border-collapse: collapse; font-size: 13px; margin: 0.5rem 0 2rem; }
  th, td { padding: 0.15rem 0.7rem; border-bottom: 1px solid #ddd; text-align: left; }
  .number { text-align: right; font-variant-numeric: tabular-nums; }
  svg { max-width: 100%; height: auto; }
  details { margin-bottom: 2rem; }
</style>
<h1>rsbmalloc beside its peers</h1>
<p>Less is better everywhere. Times are the best of many short samples, all allocators in turn in one process, less what the
same loop takes with an allocator that does nothing. Instructions are WebAssembly's, counted as they execute; bytes that
memory.copy and memory.fill move count as one instruction for each 16. Programs that emcc built run whole, in Node and in
Chromium. docs/performance.md says more.</p>
${tables(results).map(section).join("\n")}
<h2>Workloads</h2>
<table><tr><th>name</th><th>group</th><th>calls</th><th>what it is</th></tr>
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

/** A group of bars for each category, on a logarithmic scale: ratios look the same everywhere. */
function plot({ unit, categories, series }: Chart): string {
  const numbers = series.flatMap(({ values }) => values.filter((value): value is number => (value ?? 0) > 0));
  if (numbers.length === 0) return "";
  const chart = echarts.init(null, null, { renderer: "svg", ssr: true, width: WIDTH, height: HEIGHT });
  chart.setOption({
    animation: false,
    // Nothing here measures text: without room of its own, a name runs into the next one's mark.
    legend: { top: 0, itemGap: 30 },
    grid: { left: 80, right: 10, top: 40, bottom: 90 },
    xAxis: { type: "category", data: [...categories], axisLabel: { rotate: 40, interval: 0 } },
    yAxis: { type: "log", name: unit, min: 10 ** Math.floor(Math.log10(Math.min(...numbers))) },
    series: series.map(({ name, values }) => ({
      name,
      type: "bar",
      barGap: "5%",
      // A logarithm has no place for 0.
      data: values.map((value) => (value ? value : "-")),
    })),
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return svg;
}

function escape(text: string): string {
  return text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
}
