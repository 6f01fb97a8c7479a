/** The page that runs a program with three mallocs side by side, in headless Chromium. */
import { stat } from "node:fs/promises";
import path from "node:path";
import * as assert from "uvu/assert";
import { test } from "uvu";
import { buildSite } from "../browser/site.ts";
import { inPage } from "./support-browser.ts";
import { needs } from "./support.ts";

const STEPS = 120;

interface Numbers {
  time: number;
  heap: number;
  memory: number;
  size: number;
  sparks: number;
  checksum: string;
}

function parse(values: Readonly<Record<string, string>>): Numbers {
  const number = (name: string): number => Number(values[name]!.replace(/,| .*$/g, ""));
  return {
    time: number("time"),
    heap: number("heap"),
    memory: number("memory"),
    size: number("size"),
    sparks: number("sparks"),
    checksum: values["checksum"]!,
  };
}

needs("emcc", "chromium")(
  "the page runs one program with three mallocs, which draw the same, and shows the time and memory of each",
  async () => {
    const folder = await buildSite();
    await inPage(folder, async (page) => {
      await page.setViewportSize({ width: 1000, height: 1060 });
      await page.goto(`/?steps=${STEPS}`);
      await page.waitForSelector('body[data-state="done"], body[data-state="failed"]', { timeout: 120_000 });
      assert.is(await page.textContent("#progress"), `all ${STEPS} steps done`);

      const panels = new Map<string, Numbers>();
      for (const name of ["dlmalloc", "emmalloc", "rsbmalloc"]) {
        assert.is(await page.textContent(`#${name} h2`), name);
        const cells = await page.$$eval(`#${name} [data-value]`, (found) =>
          found.map((cell) => [(cell as HTMLElement).dataset["value"]!, cell.textContent!]),
        );
        panels.set(name, parse(Object.fromEntries(cells) as Record<string, string>));
      }
      for (const [name, { time, heap, memory, size, sparks }] of panels) {
        assert.ok(time > 0, `${name}: a time of ${time} ms`);
        assert.ok(heap > 1 && heap < 100, `${name}: a heap of ${heap} MiB`);
        assert.ok(memory >= heap, `${name}: ${memory} MiB of linear memory hold ${heap} MiB of heap`);
        assert.is(size, (await stat(path.join(folder, `${name}.wasm`))).size, name);
        assert.ok(sparks > 1000, `${name}: ${sparks} sparks`);
      }
      const [first, ...others] = [...panels.values()].map(({ checksum }) => checksum);
      for (const checksum of others)
        assert.is(checksum, first, "the three programs ended with different checksums");

      // The pictures are not empty, and they are the same.
      const pictures = await page.$$eval("canvas", (canvases) =>
        canvases.map((canvas) => canvas.toDataURL()),
      );
      assert.is(new Set(pictures).size, 1);
      assert.ok(pictures[0]!.length > 5000);
      const lines = await page.$$eval("polyline", (found) =>
        found.map((line) => line.getAttribute("points")!),
      );
      assert.is(lines.length, 6);
      for (const line of lines) assert.match(line, /^[\d.]+,[\d.]+( [\d.]+,[\d.]+)+$/);

      // A screenshot for the documentation: RSB_SCREENSHOT=docs/browser.png make test
      const screenshot = process.env["RSB_SCREENSHOT"];
      if (screenshot) await page.screenshot({ path: screenshot, fullPage: true });
    });
  },
);

test.run();
