/**
 * `make demo`: builds and runs the C examples, then compares SQLite with wasi-libc's dlmalloc and with rsbmalloc on the
 * same data set. `node --import tsx tools/demo.ts`; CC names the compiler.
 */
import { readFile, stat } from "node:fs/promises";
import spinner from "yocto-spinner";
import { UserError, runCommand } from "./command.ts";
import { findCompiler, type Compiler } from "./compiler.ts";
import { EXAMPLES, buildExample, expectedOutput, runExample } from "./examples.ts";
import { ALLOCATORS, buildSqlite, citiesInput, type Allocator } from "./sqlite.ts";
import { runProgram, type Result } from "./wasi.ts";

/** Number of runs with each allocator, in turn. The first ones warm up the engine. */
const RUNS = 8;

interface Measured {
  readonly results: string;
  /** The shortest time of each phase, in seconds. */
  readonly phases: ReadonlyMap<string, number>;
  readonly memory: number;
  readonly size: number;
}

await runCommand(async () => {
  const compiler = await findCompiler();
  await showExamples(compiler);
  await showSqlite(compiler);
});

async function showExamples(compiler: Compiler): Promise<void> {
  for (const example of EXAMPLES) {
    const progress = spinner({ text: `Compiling ${example.source}` }).start();
    const file = await buildExample(compiler, example).finally(() => progress.stop());
    const result = await runExample(example, file, "node");
    console.log(`\n${example.source}: ${example.about}\n${indented(result.stdout)}`);
    if (failed(result) || result.stdout !== (await expectedOutput(example))) {
      throw new UserError(
        `${example.name} failed, or did not print what c-examples/${example.name}.expected says`,
      );
    }
  }
}

async function showSqlite(compiler: Compiler): Promise<void> {
  const files = new Map<Allocator, string>();
  console.log("\nc-examples/sqlite/cities.c: SQLite with the cities of the world in memory");
  // SQLite is one source file of nine megabytes.
  const hint = compiler.name === "npm" ? "a few minutes, only once" : "some seconds, only once";
  const progress = spinner({ text: `Compiling SQLite (${hint})` }).start();
  try {
    for (const allocator of ALLOCATORS) files.set(allocator, await buildSqlite(compiler, allocator));
    const measured = await measure(files, (text) => (progress.text = text));
    progress.stop();
    report(measured);
  } finally {
    progress.stop();
  }
}

async function measure(
  files: ReadonlyMap<Allocator, string>,
  tell: (text: string) => void,
): Promise<Map<Allocator, Measured>> {
  const stdin = await citiesInput();
  const runs = new Map<Allocator, Result[]>(ALLOCATORS.map((allocator) => [allocator, []]));
  const modules = new Map<Allocator, WebAssembly.Module>();
  for (const [allocator, file] of files)
    modules.set(allocator, await WebAssembly.compile(await readFile(file)));
  for (let run = 1; run <= RUNS; run++) {
    for (const allocator of ALLOCATORS) {
      tell(`Running SQLite with ${allocator}, run ${run} of ${RUNS}`);
      // The program will keep this thread busy, so give the spinner a moment to draw.
      await new Promise((resolve) => setTimeout(resolve, 100));
      const result = await runProgram("node", modules.get(allocator)!, { stdin });
      if (failed(result)) throw new Error(`SQLite with ${allocator} failed: ${describe(result)}`);
      runs.get(allocator)!.push(result);
    }
  }
  const measured = new Map<Allocator, Measured>();
  for (const [allocator, results] of runs) {
    measured.set(allocator, {
      results: results[0]!.stdout,
      phases: shortest(results.map(({ stderr }) => readPhases(stderr))),
      memory: Math.max(...results.map(({ memory }) => memory)),
      size: (await stat(files.get(allocator)!)).size,
    });
  }
  return measured;
}

function indented(text: string): string {
  return text.trimEnd().replace(/^/gm, "    ");
}

function failed({ exitCode }: Result): boolean {
  return exitCode !== 0;
}

function describe({ trap, stderr, exitCode }: Result): string {
  return trap?.message ?? `${stderr.trim()} (exit code ${exitCode})`;
}

/** Reads lines of the form `phase<tab>seconds`. */
function readPhases(stderr: string): Map<string, number> {
  const lines = stderr.trim().split("\n");
  return new Map(lines.map((line) => line.split("\t")).map(([name, seconds]) => [name!, Number(seconds)]));
}

function shortest(runs: readonly ReadonlyMap<string, number>[]): Map<string, number> {
  const names = [...runs[0]!.keys()];
  return new Map(names.map((name) => [name, Math.min(...runs.map((phases) => phases.get(name)!))]));
}

function report(measured: ReadonlyMap<Allocator, Measured>): void {
  const [theirs, ours] = ALLOCATORS.map((allocator) => measured.get(allocator)!) as [Measured, Measured];
  console.log(indented(ours.results));
  if (theirs.results !== ours.results) {
    throw new Error(`SQLite's results differ with dlmalloc:\n${theirs.results}`);
  }
  const total = ({ phases }: Measured) => [...phases.values()].reduce((sum, seconds) => sum + seconds, 0);
  const seconds = (value: number) => `${value.toFixed(2)} s`;
  const rows: [string, number, number, (value: number) => string][] = [...ours.phases].map(
    ([name, value]) => [name, theirs.phases.get(name)!, value, seconds],
  );
  rows.push(
    ["all phases", total(theirs), total(ours), seconds],
    [
      "linear memory at its peak",
      theirs.memory,
      ours.memory,
      (value) => `${(value / 2 ** 20).toFixed(1)} MiB`,
    ],
    ["size of the .wasm", theirs.size, ours.size, (value) => `${(value / 1000).toFixed(1)} kB`],
  );
  console.log(
    `\n    Both give the same results and checksums. Times are the shortest of ${RUNS} alternating runs.\n`,
  );
  console.log(line(["", "dlmalloc", "rsbmalloc", "difference"]));
  for (const [name, before, after, show] of rows) {
    const percent = ((after / before - 1) * 100).toFixed(1);
    const difference = `${after < before ? "" : "+"}${percent} %`;
    console.log(line([name, show(before), show(after), difference]));
  }
}

function line([name, ...cells]: readonly string[]): string {
  return `    ${name!.padEnd(27)}${cells.map((cell) => cell.padStart(12)).join("")}`;
}
