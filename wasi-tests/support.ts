/**
 * Shared by the tests: the two C compilers, skipping of tests whose tools are missing, temporary files, and the project's
 * commands.
 */
import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { readFunctionNames, readSections } from "../npm/binary-format.ts";
import { reasonOf } from "../npm/errors.ts";
import { ROOT, UserError } from "../tools/command.ts";
import { build, findCompiler, type Compiler } from "../tools/compiler.ts";
import { findProgram } from "../tools/path.ts";
import { RUNTIMES, runProgram } from "../tools/wasi.ts";

type AddTest = (name: string, body: () => Promise<void> | void) => void;

/** Skips a test. `tools/test.ts` counts these lines; under CI=true each one is a failure. */
export function skip(name: string, reason: string): void {
  console.log(`skipped: ${name}: ${reason}`);
}

/** Returns a function that adds a test which needs these executables, or skips it if one of them is not in PATH. */
export function needs(...executables: readonly string[]): AddTest {
  const missing = executables.filter((name) => findProgram(name) === undefined);
  if (missing.length === 0) return test;
  return (name) => skip(name, `needs ${missing.join(", ")}`);
}

export const NATIVE = !process.env.CC || process.env.CC === "npm" ? "clang-22" : process.env.CC;

/**
 * Calls `add` for each of the two compilers: the npm one, and a native one (what CC names, or else clang 22). If a
 * compiler is missing, the tests that `add` adds for it are skipped.
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

/** Stands in for a missing compiler, so that the tests that need it can be skipped by name. */
function absentCompiler(name: string): Compiler {
  const run = () => Promise.reject(new Error(`there is no ${name}`));
  return { name, version: "", wasi: [], place: (file) => file, run };
}

/** Builds a program, runs it under both runtimes, checks that it prints the same under both, and returns that. */
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

/** Makes a folder for the files of one test file, removed after its last test. Call this before `test.run`. */
export function temporaryFolder(prefix = "rsbmalloc-test-"): string {
  const folder = mkdtempSync(path.join(os.tmpdir(), prefix));
  test.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

export async function readBytes(file: string): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await readFile(file));
}

/** For linking: with optimization, clang would run wasm-opt if it finds it, which drops the names of functions. */
export const KEEP_NAMES = "--no-wasm-opt";

/** The names of a module's functions, from its name section. */
export function functionNames(module: Uint8Array): string[] {
  return [...readFunctionNames(readSections(module)).values()];
}

/** Returns what a promise is rejected with, which must be an Error. */
export async function rejection(promise: Promise<unknown>): Promise<Error> {
  const error: unknown = await promise.then(
    () => assert.unreachable("the promise was not rejected"),
    (reason: unknown) => reason,
  );
  assert.instance(error, Error);
  return error as Error;
}

/** Returns the message with which a promise is rejected, which must be one line. */
export async function refusal(promise: Promise<unknown>): Promise<string> {
  const { message } = await rejection(promise);
  assert.match(message, /^[^\n]+$/);
  return message;
}

const WIZER = path.join(ROOT, "node_modules", "@bytecodealliance", "wizer", "wizer.js");

function wizer(...args: readonly string[]): void {
  execFileSync(process.execPath, [WIZER, ...args], { stdio: "pipe" });
}

/** Returns `add`, or a function that skips the test if Wizer, whose package has binaries for some machines, does not run. */
export function needsWizer(add: AddTest): AddTest {
  try {
    wizer("--version");
    return add;
  } catch (error) {
    return (name) => skip(name, `Wizer does not run here (${reasonOf(error)})`);
  }
}

/** Runs the export `prepare` of the module in `file`, and returns a snapshot of the module after that. */
export function takeSnapshot(file: string): Uint8Array<ArrayBuffer> {
  const folder = mkdtempSync(path.join(os.tmpdir(), "rsbmalloc-snapshot-"));
  const output = path.join(folder, "snapshot.wasm");
  try {
    const options = ["--allow-wasi", "--wasm-bulk-memory", "true", "--keep-init-func", "true"];
    wizer(file, "-o", output, "--init-func", "prepare", ...options);
    return new Uint8Array(readFileSync(output));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs one of the project's scripts. */
export function runScript(
  file: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = process.env,
): Promise<Outcome> {
  const options = { cwd: ROOT, env, maxBuffer: 1 << 26 };
  return promisify(execFile)(process.execPath, ["--import", "tsx", file, ...args], options).then(
    (output) => ({ code: 0, ...output }),
    (error: Outcome) => error,
  );
}

/** Arguments with which Node runs the command `rsbmalloc`, in the project's folder. */
export const CLI = ["--import", "tsx", "npm/cli.ts"];

/** Runs the command `rsbmalloc`. */
export function rsbmalloc(...args: readonly string[]): Promise<Outcome> {
  return runScript("npm/cli.ts", args);
}
