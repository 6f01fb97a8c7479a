/** The engines that run whole programs built by Emscripten: Node, and Chromium with a server for it. */
import { readFile, writeFile, mkdir } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";
import { launchChromium, serve } from "../../tools/browser.ts";
import { ROOT } from "../../tools/command.ts";
import { BENCH } from "../toolchain.ts";
import { sample, type Job, type Run } from "./sampler.ts";

/** Runs programs built by Emscripten. The files in a job are paths. */
export interface Engine {
  readonly name: string;
  readonly title: string;
  time(job: Job): Promise<Record<string, Run>>;
  close(): Promise<void>;
}

/** Returns the Node that runs the benchmark. */
export function node(): Engine {
  const { v8, node: version } = process.versions;
  return {
    name: "node",
    title: `V8 ${v8} (Node ${version})`,
    time: (job) =>
      sample(
        withUrls(job, (file) => pathToFileURL(file).href),
        read,
      ),
    close: async () => {},
  };
}

const read = async (url: string) => new Uint8Array(await readFile(fileURLToPath(url)));

/** The folder that is served to Chromium. It contains the programs too. */
const SITE = path.join(ROOT, "build");
const PAGE = path.join("bench", "emscripten", "index.html");

/** Starts Chromium and a server for it. Throws a UserError if there is no Chromium. */
export async function chromium(): Promise<Engine> {
  const browser = await launchChromium();
  await mkdir(path.join(SITE, path.dirname(PAGE)), { recursive: true });
  await writeFile(path.join(SITE, PAGE), "<!doctype html>\n");
  const { url, server } = await serve(SITE, 0);
  const bundle = await build({
    entryPoints: [path.join(BENCH, "emscripten", "page.ts")],
    bundle: true,
    write: false,
    target: "es2022",
    format: "iife",
    globalName: "bench",
  });
  return {
    name: "chromium",
    title: `Chromium ${browser.version()}`,
    async time(job) {
      // A new page, so that nothing of the previous program is left.
      const page = await browser.newPage();
      try {
        await page.goto(url + PAGE);
        await page.addScriptTag({ content: bundle.outputFiles[0]!.text });
        const given = withUrls(job, (file) => url + path.relative(SITE, file));
        return (await page.evaluate(`bench.time(${JSON.stringify(given)})`)) as Record<string, Run>;
      } finally {
        await page.close();
      }
    },
    async close() {
      await browser.close();
      server.close();
    },
  };
}

function withUrls({ input, samples, modules }: Job, url: (file: string) => string): Job {
  return {
    input: url(input),
    samples,
    modules: modules.map(({ malloc, script, wasm }) => ({ malloc, script: url(script), wasm: url(wasm) })),
  };
}
