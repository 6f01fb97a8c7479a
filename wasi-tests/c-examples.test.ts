/** Every example prints what its .expected file says, with both compilers, under both runtimes. */
import { readdir } from "node:fs/promises";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ROOT } from "../tools/command.ts";
import { EXAMPLES, buildExample, expectedOutput, runExample } from "../tools/examples.ts";
import { RUNTIMES } from "../tools/wasi.ts";
import { withCompilers } from "./support.ts";

await withCompilers((compiler, check) => {
  for (const example of EXAMPLES) {
    check(`${example.name} prints what it should`, async () => {
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
});

test("no example is forgotten", async () => {
  const files = await readdir(path.join(ROOT, "c-examples"));
  const sources = files.filter((name) => /\.(c|cc)$/.test(name)).map((name) => `c-examples/${name}`);
  assert.equal(sources.sort(), EXAMPLES.map(({ source }) => source).sort());
});

test.run();
