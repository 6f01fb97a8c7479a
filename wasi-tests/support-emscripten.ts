/** Shared by the tests that build with Emscripten: the installed release, and programs with a map of their functions. */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import path from "node:path";
import { parseSymbolMap } from "../npm/swap/command.ts";
import { ROOT } from "../tools/command.ts";
import { buildEmscripten, findEmscripten, type Emscripten } from "../tools/emscripten.ts";

/** If emcc is missing, this has no version, and the tests that need it are skipped. */
export const emscripten = await findEmscripten().catch((): Emscripten => ({ version: "" }));

/** The functions that `swap` replaces, and main. Exported functions are not inlined into their callers. */
export const EXPORTED = [
  "main",
  "malloc",
  "free",
  "calloc",
  "realloc",
  "memalign",
  "posix_memalign",
  "aligned_alloc",
];

export interface Mapped {
  readonly script: string;
  /** The file of the module. */
  readonly file: string;
  readonly symbolMap: string;
  /** The functions' indices, as the symbol map has them. */
  readonly names: Map<string, number>;
}

/** Builds a program that exports these functions and can grow memory, with a symbol map. */
export async function buildMapped(
  inputs: readonly string[],
  exported: readonly string[],
  ...flags: readonly string[]
): Promise<Mapped> {
  const names = `-sEXPORTED_FUNCTIONS=${exported.map((name) => `_${name}`).join()}`;
  const all = ["-sALLOW_MEMORY_GROWTH", "--emit-symbol-map", names, ...flags];
  const script = await buildEmscripten(emscripten, { inputs, flags: all });
  const symbolMap = `${script}.symbols`;
  return {
    script,
    file: script.replace(/\.js$/, ".wasm"),
    symbolMap,
    names: parseSymbolMap(await readFile(symbolMap, "utf8")),
  };
}

const CACHE = path.join(ROOT, "build", "cache", "emscripten");

/**
 * Environment variables with which emcc compiles those of its own libraries that dynamic linking needs: Debian's package
 * lacks them, and does not write to its cache.
 */
export async function withDynamicLinking(): Promise<NodeJS.ProcessEnv> {
  const root = execFileSync("em-config", ["EMSCRIPTEN_ROOT"], { encoding: "utf8" }).trim();
  const settings = path.join(root, ".emscripten");
  if (!existsSync(settings)) return {};
  await mkdir(CACHE, { recursive: true });
  const changed = path.join(CACHE, "settings.py");
  // Another test file may be using it.
  const unfinished = `${changed}.${process.pid}`;
  await writeFile(unfinished, `exec(open(${JSON.stringify(settings)}).read())\nFROZEN_CACHE = False\n`);
  await rename(unfinished, changed);
  return { EM_CONFIG: changed, EM_CACHE: CACHE };
}
