/** Correct programs do not trap on the hardened library, and behave the same as on others. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { findCompiler } from "../tools/compiler.ts";
import { EXAMPLES, buildExample, expectedOutput, runExample } from "../tools/examples.ts";
import { library } from "../tools/libraries.ts";
import { RUNTIMES } from "../tools/wasi.ts";
import { outputOf } from "./support.ts";

const compiler = await findCompiler();
const hardened = (path: string): string => path.replace(/\.a$/, "-hardened.a");
const LIBRARY = library("wasm32-wasi", "hardened");
const PROGRAMS = "wasi-tests/programs";

const output = (inputs: readonly string[], flags: readonly string[]) =>
  outputOf(compiler, inputs, ["-fno-builtin", ...flags]);

/** These print addresses of blocks or the size of the heap, which differ in a hardened build. */
const MEASURING = ["two-heaps", "page-allocator"];

for (const example of EXAMPLES.filter(({ freestanding }) => !freestanding)) {
  test(`${example.name} runs to its end, and prints the expected output unless it measures the heap`, async () => {
    const file = await buildExample(compiler, { ...example, library: hardened(example.library) });
    for (const runtime of RUNTIMES) {
      const { stdout, exitCode, trap } = await runExample(example, file, runtime);
      assert.is(trap?.stack, undefined, runtime);
      if (!MEASURING.includes(example.name)) assert.is(stdout, await expectedOutput(example), runtime);
      assert.is(exitCode, 0, runtime);
    }
  });
}

for (const level of ["-O0", "-O2"]) {
  test(`every function of the C interface behaves as documented: ${level}`, async () => {
    for (const flags of [[], ["-DPREFIXED"]])
      assert.is(await output([`${PROGRAMS}/c-abi.c`, LIBRARY], [level, ...flags]), "");
  });

  test(`a program behaves the same as with dlmalloc: ${level}`, async () => {
    const dlmalloc = await output([`${PROGRAMS}/c-behaviour.c`], [level]);
    assert.match(dlmalloc, /at the end/);
    assert.is(await output([`${PROGRAMS}/c-behaviour.c`, LIBRARY], [level]), dlmalloc);
  });

  test(`C++ allocation works: ${level}`, async () => {
    assert.is(await output([`${PROGRAMS}/cpp-abi.cc`, LIBRARY], [level, "-std=c++17"]), "");
  });
}

test.run();
