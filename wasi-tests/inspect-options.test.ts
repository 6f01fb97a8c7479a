/** The options of `rsbmalloc inspect`: intervals, limits, formats, what the program gets; and the command's exit code. */
import { readFile } from "node:fs/promises";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { RunReport, Sample } from "../npm/inspect/index.ts";
import { watch } from "../npm/inspect/timeline.ts";
import { buildProgram, command, write } from "./support-inspect.ts";
import { assemble } from "./support-wat.ts";

const program = await buildProgram();

test("every sample is printed, and the timeline keeps some from all of the run and the last one", () => {
  const printed: Sample[] = [];
  const look = () => ({ memory: 0, heap: 0, inUse: 0 });
  const timeline = watch(look, { calls: 2 }, (sample) => printed.push(sample));
  const most = 10_000;
  for (let calls = 1; calls <= most; ++calls) timeline.onAllocation(calls);
  assert.equal(
    printed.map(({ calls }) => calls),
    Array.from({ length: most / 2 }, (_, index) => 2 * index + 2),
  );
  const kept = timeline.take().map(({ calls }) => calls!);
  assert.ok(kept.length > 400 && kept.length <= 1000, `${kept.length} samples`);
  assert.is(kept.at(-1), most);
  const gaps = kept.slice(1, -1).map((calls, index) => calls - kept[index]!);
  assert.equal([...new Set(gaps)], [gaps[0]]);
});

test("an interval longer than Node's timers can wait is one that does not elapse", async () => {
  const { code, stderr } = await command("--every", "2147483648ms", program);
  assert.is(code, 3);
  // The sample at the end.
  assert.match(stderr, /^[^\n]* ms +memory [^\n]*\n$/);
});

test("intervals and limits may be in milliseconds or in seconds", async () => {
  for (const [every, lines] of [
    ["1000000s", /^[^\n]* ms +memory [^\n]*\n$/],
    ["1ms", / ms +memory /],
    ["1000000", / ms +\d[\d,]* calls +memory /],
  ] as const) {
    const { code, stderr } = await command("--every", every, program);
    assert.is(code, 3, stderr);
    assert.match(stderr, lines);
  }
  for (const [limit, ms] of [
    ["1", 1000],
    ["1s", 1000],
    ["1500ms", 1500],
  ] as const) {
    const { code, stdout } = await command("--timeout", limit, "--json", program, "loop");
    assert.is(code, 1);
    assert.equal((JSON.parse(stdout) as RunReport).end, { timeLimit: ms });
  }
  for (const wrong of ["0s", "1m", "1.5s", "s", "1000000s", "1000000000ms"]) {
    const { code, stderr } = await command("--timeout", wrong, program);
    assert.is(code, 1);
    assert.match(stderr, /^[^\n]*--timeout [^\n]* Use a whole number of seconds from 1 to 999999[^\n]*\n$/);
  }
});

test("the name of the output chooses the format, unless an option does", async () => {
  const formats = { text: /^\S+: exited with /, html: /^<!doctype html>/, json: /^\{/ };
  for (const [name, options, format] of [
    ["heap.html", [], "html"],
    ["heap.HTML", [], "html"],
    ["heap.json", [], "json"],
    ["heap.txt", [], "text"],
    ["html", [], "text"],
    ["heap.html", ["--json"], "json"],
    ["heap.json", ["--html"], "html"],
  ] as const) {
    const file = await write(name, "");
    const { code, stdout, stderr } = await command(...options, "--output", file, program);
    assert.is(code, 3, stderr);
    assert.match(stdout, /^round 9$/m);
    assert.match(await readFile(file, "utf8"), formats[format], name);
  }
});

test("--env sets a variable of the program's environment, and needs a name", async () => {
  const reader = await buildProgram("inspect-host");
  const file = await write("equation.txt", "a=b");
  const run = (...env: readonly string[]) =>
    command(...env.flatMap((each) => ["--env", each]), "--dir", path.dirname(file), reader, file);
  assert.is((await run("OTHER=", "WORD=a=b")).code, 0);
  assert.is((await run("WORD=a=b", "WORD=c")).code, 2);
  assert.is((await run("WORD=")).code, 2);
  for (const wrong of ["=a", "WORD", "="]) {
    const { code, stderr } = await run(wrong);
    assert.is(code, 1);
    assert.match(stderr, /^[^\n]*--env [^\n]* Use NAME=VALUE[^\n]*\n$/);
  }
});

test("the command exits with the program's exit code, or 1 where the system would make it 0", async () => {
  for (const [exitCode, expected] of [
    [255, 255],
    [256, 1],
    [300, 44],
    [-256, 1],
  ] as const) {
    const module = assemble(
      `(module
        (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
        (memory (export "memory") 1)
        (func (export "_start") (call 0 (i32.const ${exitCode}))))`,
    );
    const file = await write("exit.wasm", module);
    const { code, stdout } = await command(file);
    assert.match(stdout, `exited with code ${exitCode} `);
    assert.is(code, expected);
  }
});

test.run();
