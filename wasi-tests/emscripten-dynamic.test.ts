/** Dynamic linking with Emscripten: the library is in a main module, and side modules allocate from it. */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ROOT } from "../tools/command.ts";
import { buildEmscripten, linkLibrary, runEmscripten } from "../tools/emscripten.ts";
import { emscripten } from "./support-emscripten.ts";
import { needs } from "./support.ts";

const check = needs("emcc", "em-config");
const CACHE = path.join(ROOT, "build", "cache", "emscripten");
const EXPORTED = "-sEXPORTED_FUNCTIONS=_main,_malloc,_free,_realloc,_memset";
/** The bytes that the program allocates: the sum of 2 + i * i for each i below 300. */
const BYTES = 8_955_650;

/**
 * Environment variables with which emcc compiles those of its own libraries that dynamic linking needs: Debian's package
 * lacks them, and does not write to its cache.
 */
async function withLibraries(): Promise<NodeJS.ProcessEnv> {
  const root = execFileSync("em-config", ["EMSCRIPTEN_ROOT"], { encoding: "utf8" }).trim();
  const settings = path.join(root, ".emscripten");
  if (!existsSync(settings)) return {};
  await mkdir(CACHE, { recursive: true });
  const changed = path.join(CACHE, "settings.py");
  await writeFile(changed, `exec(open(${JSON.stringify(settings)}).read())\nFROZEN_CACHE = False\n`);
  return { EM_CONFIG: changed, EM_CACHE: CACHE };
}

async function build(optimization: string, ...library: readonly string[]): Promise<string> {
  const environment = await withLibraries();
  const side = await buildEmscripten(emscripten, {
    inputs: ["wasi-tests/programs/emscripten-side.c"],
    flags: [
      optimization,
      "-fno-builtin",
      "-sSIDE_MODULE=2",
      "-sEXPORTED_FUNCTIONS=_make_block,_free_sum,_free_twice",
    ],
    output: "side.wasm",
    environment,
  });
  return buildEmscripten(emscripten, {
    inputs: ["wasi-tests/programs/emscripten-main.c"],
    flags: [
      optimization,
      "-fno-builtin",
      "-sMAIN_MODULE=2",
      "-sALLOW_MEMORY_GROWTH",
      EXPORTED,
      "--embed-file",
      `${side}@side.wasm`,
      ...library,
    ],
    environment,
  });
}

for (const optimization of ["-O0", "-O2"]) {
  check(`a main module and a side module share one heap with ${optimization}`, async () => {
    const { stdout, stderr, exitCode } = await runEmscripten(await build(optimization, ...linkLibrary()));
    assert.is(stdout, `${BYTES} bytes\n`, stderr);
    assert.is(exitCode, 0, stderr);
  });
}

check("the hardened library reports a bug in a side module", async () => {
  const script = await build("-O1", ...linkLibrary("hardened"));
  assert.is((await runEmscripten(script)).stdout, `${BYTES} bytes\n`);
  const { stdout, exitCode } = await runEmscripten(script, ["wrong"]);
  assert.is(stdout, `${BYTES} bytes\ndouble free\n`);
  assert.is.not(exitCode, 0);
});

test.run();
