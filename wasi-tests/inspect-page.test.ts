/** The inspector in a browser: the page that `--html` writes, and the live view of an instance's heap. */
import path from "node:path";
import { readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { build } from "esbuild";
import type { Page } from "playwright-core";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type * as rsbmalloc from "../npm/index.ts";
import type * as inspector from "../npm/inspect/browser.ts";
import { largeSizes, type HeapReport, type RunReport } from "../npm/inspect/index.ts";
import { ROOT } from "../tools/command.ts";
import { inPage } from "./support-browser.ts";
import { FOLDER, LAYOUTS, buildProgram, command } from "./support-inspect.ts";
import { needs } from "./support.ts";

/** The number of sizes of large blocks that a page shows one by one. */
const MOST_SIZES = 10;

/** Runs `body` with a page in Chromium. Fails if the page throws an error or requests anything but files. */
function withPage(body: (page: Page) => Promise<void>): Promise<void> {
  return inPage(undefined, async (page) => {
    await page.setViewportSize({ width: 1100, height: 1000 });
    // An overloaded machine may need long.
    page.setDefaultTimeout(300_000);
    const requests: string[] = [];
    page.on("request", (request) => requests.push(request.url()));
    await body(page);
    assert.equal(
      requests.filter((url) => !url.startsWith("file:")),
      [],
    );
  });
}

/** The numbers that the elements below `selector` show, by their keys. */
async function numbers(page: Page, selector: string): Promise<Record<string, number>> {
  const shown = await page.$$eval(`${selector} [data-value]`, (cells) =>
    cells.map((cell) => [cell.getAttribute("data-key")!, Number(cell.getAttribute("data-value"))] as const),
  );
  return Object.fromEntries(shown);
}

/** Checks that a page shows the numbers of this heap and its map. */
async function assertShows(page: Page, heap: HeapReport): Promise<void> {
  await assertShowsFacts(page, heap);
  await assertShowsBar(page, heap);
  await assertShowsBins(page, heap);
  await assertShowsLarge(page, heap);
  await assertShowsMap(page, heap);
}

async function assertShowsFacts(page: Page, heap: HeapReport): Promise<void> {
  assert.equal(await numbers(page, "section[data-heap] .facts"), {
    heap: heap.heap,
    inUse: heap.inUse,
    free: heap.free,
    peak: heap.peak,
    mapSize: heap.mapSize,
    largeBlocks: heap.large.blocks,
    largeBytes: heap.large.bytes,
    freeRuns: heap.freeRuns.runs,
    longestRun: heap.freeRuns.longest,
  });
}

/** Each part of the bar must be as wide as its share of the heap. */
async function assertShowsBar(page: Page, { heap, bins, large, free, freeRuns }: HeapReport): Promise<void> {
  const inSlots = bins.map(({ usedSlots, slotSize }) => usedSlots * slotSize);
  const [inLarge, idle, inRuns] = [large.bytes, free - freeRuns.bytes, freeRuns.bytes];
  assert.equal(await numbers(page, "section[data-heap] .share + .legend"), {
    inSlots: inSlots.reduce((sum, bytes) => sum + bytes, 0),
    inLarge,
    idle,
    inRuns,
  });
  const bar = await page.$eval("section[data-heap] .share", (bar) => ({
    width: bar.clientWidth,
    parts: [...bar.children].map((part) => part.getBoundingClientRect().width),
  }));
  const parts = [...inSlots, inLarge, idle, inRuns].filter((bytes) => bytes > 0);
  assert.is(bar.parts.length, parts.length);
  for (const [at, bytes] of parts.entries())
    assert.ok(
      Math.abs(bar.parts[at]! - (bar.width * bytes) / heap) < 1,
      `part ${at} of the bar is ${bar.parts[at]} pixels wide, not ${(bar.width * bytes) / heap}`,
    );
}

async function assertShowsBins(page: Page, { bins }: HeapReport): Promise<void> {
  assert.is(await page.$$eval("tr[data-bin]", (rows) => rows.length), bins.length);
  for (const { slotSize, pages, slots, usedSlots, rounding, waste } of bins) {
    const usedBytes = usedSlots * slotSize;
    assert.equal(await numbers(page, `tr[data-bin="${slotSize}"]`), {
      slotSize,
      pages,
      slots,
      usedSlots,
      usedBytes,
      rounding,
      waste,
    });
  }
}

async function assertShowsLarge(page: Page, heap: HeapReport): Promise<void> {
  const large = largeSizes(heap);
  const rows = await page.$$eval("tr[data-large]", (found) => found.map((row) => row.dataset.large!));
  const shown = large.slice(0, MOST_SIZES);
  const rest = large.slice(MOST_SIZES);
  assert.equal(rows, [...shown.map(({ size }) => `${size}`), ...(rest.length > 0 ? ["rest"] : [])]);
  for (const { size, blocks, bytes } of shown)
    assert.equal(await numbers(page, `tr[data-large="${size}"]`), { size, blocks, bytes });
  if (rest.length > 0)
    assert.equal(await numbers(page, "tr[data-large=rest]"), {
      sizes: rest.length,
      blocks: rest.reduce((sum, { blocks }) => sum + blocks, 0),
      bytes: rest.reduce((sum, { bytes }) => sum + bytes, 0),
    });
}

/** The map must draw exactly the regions that belong to the heap. */
async function assertShowsMap(page: Page, heap: HeapReport): Promise<void> {
  // In a single call: a live page may redraw at any time, and elements that were replaced have no box.
  const drawn = await page.evaluate(() =>
    [...document.querySelectorAll<SVGPathElement>("svg.map path")]
      .filter((path) => path.getBBox().width > 0)
      .map((path) => path.textContent!),
  );
  const regions = heap.regions.filter(({ serves }) => serves !== "other");
  assert.is(drawn.length, regions.length);
  for (const [at, { address }] of regions.entries())
    assert.match(drawn[at]!, new RegExp(`^0x${address.toString(16)}: `));
  const pages = await page.$eval("svg.map", (map) => Number(map.getAttribute("data-value")));
  assert.is(pages, (heap.end - heap.start) / heap.pageSize);
}

const inChromium = needs("chromium");

inChromium("the page that --html writes shows the numbers that --json reports", async () => {
  const program = await buildProgram();
  const [html, json] = [path.join(FOLDER, "heap.html"), path.join(FOLDER, "heap.json")];
  assert.is((await command("--leaks", "--html", "--output", html, program)).code, 3);
  assert.is((await command("--leaks", "--json", "--output", json, program)).code, 3);
  const report = JSON.parse(await readFile(json, "utf8")) as RunReport;
  await withPage(async (page) => {
    await page.goto(pathToFileURL(html).href);
    await assertShows(page, report.heaps[0]!);
    const { blocks, bytes, calls, sites } = report.leaks!;
    assert.equal(await numbers(page, "section[data-leaks] .facts"), {
      leakedBlocks: blocks,
      leakedBytes: bytes,
      calls,
      sites: sites.length,
    });
    assert.equal(
      await page.$$eval("td.stack", (cells) =>
        cells.map((cell) => [...cell.querySelectorAll("li")].map((frame) => frame.textContent)),
      ),
      sites.map(({ stack }) => stack),
    );
    // The timeline has three lines: linear memory, the heap and the bytes in use, each drawn to the end of the run.
    const chart = await page.$$eval("svg.chart path", (paths) =>
      paths.map((path) => Math.round((path as SVGPathElement).getBBox().width)),
    );
    assert.equal(chart, [960, 960, 960]);
    const body = (await page.textContent("body"))!;
    assert.match(body, "exited with code 3");
    assert.match(body, `24 blocks (103 KiB) never freed, from ${sites.length} places`);
    // On a narrow screen tables scroll, and the page does not.
    await page.setViewportSize({ width: 400, height: 800 });
    assert.is(await page.evaluate(() => document.documentElement.scrollWidth), 400);
  });
});

/** Bundles what a page needs to show a heap into one script. */
async function bundle(): Promise<string> {
  const contents = 'export * from "./npm/index.ts"; export * from "./npm/inspect/browser.ts";';
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: ROOT, loader: "ts" },
    bundle: true,
    write: false,
    format: "iife",
    globalName: "modules",
    logLevel: "error",
    logOverride: { "empty-import-meta": "silent" },
  });
  return outputFiles[0]!.text;
}

/** The globals of the page in the next test. */
interface Globals {
  modules: typeof rsbmalloc & typeof inspector;
  heap: rsbmalloc.Heap;
  stop: () => void;
}

inChromium("showHeap follows an instance's heap, reports damage to it, and stops when told to", async () => {
  const module = [...(await readFile(path.join(ROOT, "lib", "rsbmalloc.wasm")))];
  await withPage(async (page) => {
    await page.addScriptTag({ content: await bundle() });
    await page.evaluate(
      async ([module, layouts]) => {
        const { modules } = globalThis as unknown as Globals;
        const heap = await modules.instantiate({ module: Uint8Array.from(module) });
        const stop = modules.showHeap(document.body, heap.memory, { layouts, every: 20 });
        Object.assign(globalThis, { heap, stop });
      },
      [module, LAYOUTS] as const,
    );
    assert.match((await page.textContent("body"))!, "No heap");

    // The page follows as blocks of many sizes are allocated.
    for (const count of [100, 1000]) {
      const report = await page.evaluate(
        ([count, layouts]) => {
          const { modules, heap } = globalThis as unknown as Globals;
          for (let index = 0; index < count; ++index) {
            const block = heap.malloc(index % 20 ? (index * 97) % 5000 : 20_000 + index * 400);
            if (index % 3 === 0) heap.free(block);
          }
          return modules.readHeaps(heap.memory.buffer, layouts)[0]!;
        },
        [count, LAYOUTS] as const,
      );
      await page.waitForSelector(`[data-key="inUse"][data-value="${report.inUse}"]`);
      await assertShows(page, report);
    }
    const samples = (): Promise<number> =>
      page.$eval('[data-key="samples"]', (cell) => Number(cell.getAttribute("data-value")));
    const before = await samples();
    await page.waitForFunction(
      (before) =>
        Number(document.querySelector('[data-key="samples"]')!.getAttribute("data-value")) > before + 2,
      before,
    );

    // If the heap is overwritten, the page shows a line that says so, and goes on.
    const state = await page.evaluate(
      ({ STATE_MAGIC, MAGIC }) => {
        const { heap } = globalThis as unknown as Globals;
        new Uint8Array(heap.memory.buffer, heap.state, 64).fill(0xff);
        new DataView(heap.memory.buffer).setUint32(heap.state + STATE_MAGIC, MAGIC, true);
        return heap.state;
      },
      LAYOUTS.find(({ HARDENED }) => !HARDENED)!,
    );
    await page.waitForSelector(".damage");
    assert.match((await page.textContent(".damage"))!, `state is at 0x${state.toString(16)} is damaged`);

    await page.evaluate(() => (globalThis as unknown as Globals).stop());
    const last = await samples();
    // Waits for five ticks of another timer with the same interval, during which no more samples may be taken.
    await page.evaluate(
      () =>
        new Promise<void>((resolve) => {
          let ticks = 0;
          const timer = setInterval(() => {
            if (++ticks < 5) return;
            clearInterval(timer);
            resolve();
          }, 20);
        }),
    );
    assert.is(await samples(), last);
  });
});

test.run();
