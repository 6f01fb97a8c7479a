/**
 * Regenerates docs/inspect.png, a screenshot of `inspect --html`: SQLite with the cities of the world, stopped after some
 * seconds. `node --import tsx tools/picture.ts [seconds]`; CC names the compiler.
 */
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { launchChromium } from "./browser.ts";
import { ROOT, UserError, runCommand } from "./command.ts";
import { findCompiler } from "./compiler.ts";
import { buildSqlite, citiesInput } from "./sqlite.ts";

const SIZE = { width: 1100, height: 1280 };

await runCommand(async () => {
  const seconds = process.argv[2] ?? "3";
  const folder = mkdtempSync(path.join(os.tmpdir(), "rsbmalloc-picture-"));
  try {
    // The page shows the program's name as given on the command line.
    copyFileSync(await buildSqlite(await findCompiler(), "rsbmalloc"), path.join(folder, "cities.wasm"));
    const line = ["inspect", "--html", "-o", "heap.html", "--timeout", seconds, "--every", "50ms"];
    const tsx = import.meta.resolve("tsx");
    const command = ["--import", tsx, path.join(ROOT, "npm", "cli.ts"), ...line, "cities.wasm"];
    const { status } = spawnSync(process.execPath, command, { cwd: folder, input: await citiesInput() });
    if (status === 0)
      throw new UserError(`the program ended within ${seconds} s: pass a smaller number of seconds`);

    const browser = await launchChromium();
    try {
      const page = await browser.newPage({ viewport: SIZE });
      await page.goto(pathToFileURL(path.join(folder, "heap.html")).href);
      await page.screenshot({ path: path.join(ROOT, "docs", "inspect.png") });
    } finally {
      await browser.close();
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});
