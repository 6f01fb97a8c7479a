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

/** Downloads, modules of other kinds than programs, and the report. */
export const BUILD = path.join(ROOT, "build", "bench");
export const BENCH = path.join(ROOT, "bench");

/** The package whose tools work on linked programs, and what tells its version. */
export const BINARYEN = path.join(ROOT, "node_modules", "binaryen");
export const BINARYEN_MANIFEST = path.join(BINARYEN, "package.json");

/** A native compiler where there is one: the npm one does not see the files that some peers' sources include. */
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

/** Links a program and returns its path. Throws a UserError with the first of the compiler's errors. */
export async function link(program: Program): Promise<string> {
  return oneLine(build(await (found ??= compiler()), program));
}

/** Compiles one file and returns the object's path, with errors as in `link`. */
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
