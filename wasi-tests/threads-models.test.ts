/** Models of how threads interact, which spin checks in every possible order of the threads' steps. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ROOT } from "../tools/command.ts";
import { needs } from "./support.ts";

/** For each model, the macros that each remove a safeguard from it: with one of them defined, spin must find an error. */
const MODELS = {
  lock: ["FORGETFUL"],
  batches: ["UNCOUNTED"],
  caches: ["UNLOCKED"],
  map: ["EARLY", "REUSED"],
} as const;

/** Returns the number of errors that an exhaustive search finds, 0 or 1: it stops at the first. */
function search(model: string, defined: readonly string[]): number {
  const folder = mkdtempSync(path.join(os.tmpdir(), "rsbmalloc-model-"));
  const run = (command: string, args: readonly string[]) =>
    execFileSync(command, args, { cwd: folder, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  try {
    const source = path.join(ROOT, "wasi-tests", "model", `${model}.pml`);
    run("spin", [...defined.map((name) => `-D${name}`), "-a", source]);
    run("gcc", ["-O1", "-w", "-DSAFETY", "-o", "pan", "pan.c"]);
    const report = run("./pan", ["-m1000000", "-w24"]);
    assert.not.match(report, /max search depth too small|out of memory/);
    return Number(/errors: (\d+)/.exec(report)![1]);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

for (const [model, wrong] of Object.entries(MODELS)) {
  needs("spin", "gcc")(`the model ${model} has no error in any order of steps`, () => {
    assert.is(search(model, []), 0);
  });
  for (const name of wrong) {
    needs("spin", "gcc")(`the model ${model} has an error with ${name} defined`, () => {
      assert.is(search(model, [name]), 1);
    });
  }
}

test.run();
