/** The folders, tools and compilers of the benchmark. */
import path from "node:path";
import { ROOT, UserError } from "../tools/command.ts";
import {
  CompileError,
  build,
  compileObject,
  findCompiler,
  type Compiler,
  type Program,
} from "../tools/compiler.ts";

/** The folder for downloads, generated inputs and the report. */
export const BUILD = path.join(ROOT, "build", "bench");
export const BENCH = path.join(ROOT, "bench");

/** The npm package whose tools work on linked programs, and the file with its version, for cache keys. */
export const BINARYEN = path.join(ROOT, "node_modules", "binaryen");
export const BINARYEN_MANIFEST = path.join(BINARYEN, "package.json");

/** Native compilers, which are preferred: the npm one does not see files that the sources of some peers include. */
const PREFERRED = ["clang-22", "clang-21", "clang-20", "clang-19", "clang"];

let found: Promise<Compiler> | undefined;

async function compiler(): Promise<Compiler> {
  const cc = process.env.CC ?? "npm";
  if (cc !== "npm") return findCompiler(cc);
  for (const name of PREFERRED) {
    const native = await findCompiler(name).catch(() => undefined);
    if (native) return native;
  }
  return findCompiler("npm");
}

/** Links a program. Returns its path; throws a UserError with the compiler's first error. */
export async function link(program: Program): Promise<string> {
  return oneLine(build(await (found ??= compiler()), program));
}

/** Compiles a file. Returns the object's path; throws a UserError with the compiler's first error. */
export async function object(source: string, options: Omit<Program, "inputs">): Promise<string> {
  return oneLine(compileObject(await (found ??= compiler()), source, options));
}

async function oneLine(result: Promise<string>): Promise<string> {
  try {
    return await result;
  } catch (error) {
    if (!(error instanceof CompileError)) throw error;
    throw new UserError(error.messages.split("\n").find((line) => line.includes("error")) ?? error.message);
  }
}
