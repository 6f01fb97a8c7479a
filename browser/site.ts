/** Builds the page into build/browser. */
import { copyFile, mkdir } from "node:fs/promises";
import path from "node:path";
import { build } from "esbuild";
import { ROOT } from "../tools/command.ts";
import { buildEmscripten, findEmscripten, linkMalloc } from "../tools/emscripten.ts";

const FOLDER = path.join(ROOT, "build", "browser");
const SOURCES = path.join(ROOT, "browser");

const MALLOCS = ["dlmalloc", "emmalloc", "rsbmalloc"];

/** Memory starts small and grows by no more than requested, so that its size shows what malloc needs. */
const FLAGS = [
  "-O2",
  "--no-entry",
  "-sENVIRONMENT=web",
  "-sMODULARIZE",
  "-sEXPORT_ES6",
  "-sTOTAL_STACK=64KB",
  "-sINITIAL_MEMORY=128KB",
  "-sALLOW_MEMORY_GROWTH",
  "-sMEMORY_GROWTH_GEOMETRIC_STEP=0",
];

/** Returns the folder of the page. */
export async function buildSite(): Promise<string> {
  const emscripten = await findEmscripten();
  await mkdir(FOLDER, { recursive: true });
  for (const name of MALLOCS) {
    const script = await buildEmscripten(emscripten, {
      inputs: ["browser/fireworks.c"],
      flags: [...FLAGS, ...linkMalloc(name)],
      output: `${name}.mjs`,
    });
    for (const file of [script, script.replace(/\.mjs$/, ".wasm")]) {
      await copyFile(file, path.join(FOLDER, path.basename(file)));
    }
  }
  await build({
    entryPoints: [path.join(SOURCES, "page.ts")],
    outfile: path.join(FOLDER, "page.js"),
    format: "esm",
    target: "es2022",
    logLevel: "warning",
  });
  for (const file of ["index.html", "page.css"])
    await copyFile(path.join(SOURCES, file), path.join(FOLDER, file));
  return FOLDER;
}
