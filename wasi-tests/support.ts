/** What the tests share: both C compilers, and tests that are left out, by name, where a tool is missing. */
import { execFileSync } from "node:child_process";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { reasonOf } from "../npm/errors.ts";
import { ROOT, UserError } from "../tools/command.ts";
import { build, findCompiler, type Compiler } from "../tools/compiler.ts";
import { findProgram } from "../tools/path.ts";
import { RUNTIMES, runProgram } from "../tools/wasi.ts";

type AddTest = (name: string, body: () => Promise<void> | void) => void;

/** Leaves a test out. `tools/test.ts` counts these lines; under CI=true each is a failure. */
export function skip(name: string, reason: string): void {
  console.log(`skipped: ${name}: ${reason}`);
}

/** Adds tests that need executables, all in PATH; where one is missing, leaves them out. */
export function needs(...executables: readonly string[]): AddTest {
  const missing = executables.filter((name) => findProgram(name) === undefined);
  if (missing.length === 0) return test;
  return (name) => skip(name, `needs ${missing.join(", ")}`);
}

export const NATIVE = !process.env.CC || process.env.CC === "npm" ? "clang-22" : process.env.CC;

/**
 * Adds a test for each of the two compilers, the npm one and a native one: the one that CC names, or clang 22. What the
 * body throws first is what it could not build.
 */
export async function withCompilers(add: (compiler: Compiler, add: AddTest) => void): Promise<void> {
  for (const cc of ["npm", NATIVE]) {
    const found = await findCompiler(cc).catch((error: unknown) => {
      if (error instanceof UserError) return error;
      throw error;
    });
    if (found instanceof UserError) {
      add(absentCompiler(cc), (name) => skip(`${name} (${cc})`, found.message));
    } else {
      add(found, (name, body) => test(`${name} (${cc})`, body));
    }
  }
}

/** Stands in for a compiler so that the tests that need it can give their names. */
function absentCompiler(name: string): Compiler {
  const run = () => Promise.reject(new Error(`there is no ${name}`));
  return { name, version: "", wasi: [], place: (file) => file, run };
}

/** Builds a program and runs it under both runtimes. Returns what it printed, the same under both. */
export async function outputOf(
  compiler: Compiler,
  inputs: readonly string[],
  flags: readonly string[],
): Promise<string> {
  const file = await build(compiler, { inputs, includes: ["include"], flags });
  const outputs = [];
  for (const runtime of RUNTIMES) {
    const { stdout, exitCode, trap } = await runProgram(runtime, file);
    assert.is(trap?.stack, undefined, runtime);
    assert.is(exitCode, 0, `${runtime}: ${stdout}`);
    outputs.push(stdout);
  }
  assert.is(outputs[0], outputs[1]);
  return outputs[0]!;
}

export const WIZER = path.join(ROOT, "node_modules", "@bytecodealliance", "wizer", "wizer.js");

/** What is in the way of running Wizer, whose package has binaries for some machines. */
export function whyNoWizer(): string | undefined {
  try {
    execFileSync(process.execPath, [WIZER, "--version"], { stdio: "pipe" });
    return undefined;
  } catch (error) {
    return `Wizer does not run here (${reasonOf(error)})`;
  }
}
