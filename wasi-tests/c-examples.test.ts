/** The examples, built with both compilers and run under both runtimes: each prints what its .expected file has. */
import { readdir } from "node:fs/promises";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ROOT } from "../tools/command.ts";
import { EXAMPLES, buildExample, expectedOutput, runExample } from "../tools/examples.ts";
import { ALLOCATORS, buildSqlite, citiesInput } from "../tools/sqlite.ts";
import { RUNTIMES, runProgram } from "../tools/wasi.ts";
import { withCompilers } from "./support.ts";

await withCompilers((compiler, check) => {
  for (const example of EXAMPLES) {
    check(`${example.name} prints its expected output`, async () => {
      const expected = await expectedOutput(example);
      const file = await buildExample(compiler, example);
      for (const runtime of RUNTIMES) {
        const result = await runExample(example, file, runtime);
        assert.is(result.stdout, expected, runtime);
        assert.is(result.stderr, "", runtime);
        assert.is(result.exitCode, 0, runtime);
      }
    });
  }

  check("SQLite gives the same results with dlmalloc and with rsbmalloc", async () => {
    const stdin = await citiesInput(20);
    const outputs = [];
    for (const allocator of ALLOCATORS) {
      const file = await buildSqlite(compiler, allocator);
      for (const runtime of RUNTIMES) {
        const { stdout, exitCode } = await runProgram(runtime, file, { stdin });
        assert.is(exitCode, 0, `${allocator}, ${runtime}`);
        outputs.push(stdout);
      }
    }
    assert.match(outputs[0]!, /update: [1-9]\d* rows/);
    for (const output of outputs) assert.is(output, outputs[0]);
  });
});

test("every source file in c-examples is listed in tools/examples.ts", async () => {
  const files = await readdir(path.join(ROOT, "c-examples"));
  const sources = files.filter((name) => /\.(c|cc)$/.test(name)).map((name) => `c-examples/${name}`);
  assert.equal(sources.sort(), EXAMPLES.map(({ source }) => source).sort());
});

test.run();
