import { execFile, execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { Unavailable } from "../output.ts";
import { BUILD } from "../paths.ts";

const run = promisify(execFile);

/** The native clang that compiles peers and drivers. The npm one would do, but takes minutes where this takes seconds. */
export function findClang(): string {
  const wanted = process.env.CC && process.env.CC !== "npm" ? [process.env.CC] : [];
  for (const name of [...wanted, "clang-22", "clang-21", "clang-20", "clang-19", "clang"]) {
    try {
      execFileSync(name, ["--target=wasm32-wasi", "-x", "c", "-fsyntax-only", "-include", "stdlib.h", "-"], {
        input: "",
        stdio: "pipe",
      });
      return name;
    } catch {
      continue;
    }
  }
  throw new Unavailable(
    "no native clang with a wasm target and a WASI sysroot: install Debian's clang-22, lld-22, wasi-libc (see docs/performance.md)",
  );
}

let clang: string | undefined;

/**
 * Runs clang with `-o` a file whose name is a hash of the arguments and of the inputs' contents, unless it is there
 * from an earlier run. Returns the file's path.
 */
export async function compile(
  args: readonly string[],
  inputs: readonly string[],
  ending: string,
): Promise<string> {
  clang ??= findClang();
  const hash = createHash("sha256").update(JSON.stringify([clang, args]));
  for (const input of inputs) hash.update(readFileSync(input));
  const output = path.join(BUILD, "modules", hash.digest("hex").slice(0, 24) + ending);
  if (existsSync(output)) return output;
  mkdirSync(path.dirname(output), { recursive: true });
  const partial = `${output}.${process.pid}${ending}`;
  const target = ["--target=wasm32-wasi", "-Wno-deprecated", "-mbulk-memory"];
  try {
    await run(clang, [...target, ...args, "-o", partial]);
  } catch (error) {
    const stderr = (error as { stderr?: string }).stderr ?? String(error);
    throw new Unavailable(stderr.split("\n").find((line) => line.includes("error")) ?? stderr.slice(0, 200));
  }
  renameSync(partial, output);
  return output;
}
