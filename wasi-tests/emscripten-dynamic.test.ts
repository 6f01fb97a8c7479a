/** Dynamic linking with Emscripten: the library is in a main module, and side modules allocate from it. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { buildEmscripten, linkLibrary, runEmscripten } from "../tools/emscripten.ts";
import { emscripten, withDynamicLinking } from "./support-emscripten.ts";
import { needs } from "./support.ts";

const check = needs("emcc", "em-config");
const EXPORTED = "-sEXPORTED_FUNCTIONS=_main,_malloc,_free,_realloc,_memset";
/** The bytes that the program allocates: the sum of 2 + i * i for each i below 300. */
const BYTES = 8_955_650;

async function build(optimization: string, ...library: readonly string[]): Promise<string> {
  const environment = await withDynamicLinking();
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
