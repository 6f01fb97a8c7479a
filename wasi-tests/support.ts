/** What the tests share: both C compilers, and tests that are left out, by name, where a tool is missing. */
import { execFileSync } from "node:child_process";
import { accessSync, constants } from "node:fs";
import path from "node:path";
import { test } from "uvu";
import { ROOT, UserError } from "../tools/command.ts";
import { findCompiler, type Compiler } from "../tools/compiler.ts";

type AddTest = (name: string, body: () => Promise<void> | void) => void;

/** Leaves a test out. `tools/test.ts` counts these lines; under CI=true each is a failure. */
export function skip(name: string, reason: string): void {
  console.log(`skipped: ${name}: ${reason}`);
}

/** Adds tests that need executables, all in PATH; where one is missing, leaves them out. */
export function needs(...executables: readonly string[]): AddTest {
  const missing = executables.filter((name) => !inPath(name));
  if (missing.length === 0) return test;
  return (name) => skip(name, `needs ${missing.join(", ")}`);
}

function inPath(executable: string): boolean {
  return (process.env.PATH ?? "").split(path.delimiter).some((folder) => {
    try {
      accessSync(path.join(folder, executable), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
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

export const WIZER = path.join(ROOT, "node_modules", "@bytecodealliance", "wizer", "wizer.js");

/** What is in the way of running Wizer, whose package has binaries for some machines. */
export function whyNoWizer(): string | undefined {
  try {
    execFileSync(process.execPath, [WIZER, "--version"], { stdio: "pipe" });
    return undefined;
  } catch (error) {
    return `Wizer does not run here (${String(error).split("\n")[0]})`;
  }
}
