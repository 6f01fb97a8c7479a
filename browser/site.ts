/** Builds the page into build/browser and serves it. */
import { copyFile, mkdir } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { build } from "esbuild";
import sirv from "sirv";
import { ROOT } from "../tools/command.ts";
import { RSBMALLOC, buildEmscripten, findEmscripten } from "../tools/emscripten.ts";

const FOLDER = path.join(ROOT, "build", "browser");
const SOURCES = path.join(ROOT, "browser");

/** The link flags of the three programs. */
const MALLOCS: Readonly<Record<string, readonly string[]>> = {
  dlmalloc: ["-sMALLOC=dlmalloc"],
  emmalloc: ["-sMALLOC=emmalloc"],
  rsbmalloc: RSBMALLOC,
};

/** Memory starts small and grows by no more than is asked for, so that it tells what malloc needs. */
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

/** Returns the folder of the finished page. */
export async function buildSite(): Promise<string> {
  const emscripten = await findEmscripten();
  await mkdir(FOLDER, { recursive: true });
  for (const [name, malloc] of Object.entries(MALLOCS)) {
    const program = { inputs: ["browser/fireworks.c"], flags: [...FLAGS, ...malloc], output: `${name}.mjs` };
    const script = await buildEmscripten(emscripten, program);
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

/** Serves a folder to this machine alone. A port of 0 stands for any that is free. Returns the address. */
export async function serve(folder: string, port: number): Promise<{ url: string; server: Server }> {
  const files = sirv(folder, {
    dev: true,
    // An isolated page has a finer clock.
    setHeaders: (response) => {
      response.setHeader("Cross-Origin-Opener-Policy", "same-origin");
      response.setHeader("Cross-Origin-Embedder-Policy", "require-corp");
    },
  });
  const server = createServer((request, response) => {
    files(request, response, () => void response.writeHead(404).end());
  });
  await new Promise<void>((resolve, reject) => {
    server.on("error", reject);
    server.listen(port, "127.0.0.1", resolve);
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, server };
}
