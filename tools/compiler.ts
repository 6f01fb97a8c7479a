/**
 * Compiles and links C and C++ for wasm32. CC names the compiler: `npm`, which is the npm package @yowasp/clang, or any
 * clang with a wasm target and a WASI sysroot. Results are cached; the key covers the compiler, its arguments and the
 * contents of every file that it may read.
 */
import { execFile, fork } from "node:child_process";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { Request, Response } from "./npm-clang.ts";
import { cached } from "./cache.ts";
import { ROOT, UserError, displayPath } from "./command.ts";

export interface Compiler {
  /** The value of CC. */
  readonly name: string;
  readonly version: string;
  /** The flags that select WASI, with whichever of wasm32-wasip1 and wasm32-wasi the sysroot supports. */
  readonly wasi: readonly string[];
  /** Returns the name by which the compiler knows a file of the host. */
  readonly place: (file: string) => string;
  /** Runs clang, which may read `files` and has to write `output`. All are paths on the host. */
  readonly run: (args: readonly string[], files: readonly string[], output: string) => Promise<Outcome>;
}

interface Outcome {
  readonly ok: boolean;
  readonly messages: string;
}

export interface Program {
  /** C (.c) and C++ (.cc) sources, objects and archives: paths relative to the project's folder, or absolute. */
  readonly inputs: readonly string[];
  /** Flags for each compilation and for the link. */
  readonly flags?: readonly string[];
  readonly linkFlags?: readonly string[];
  /** Folders with header files. Headers beside a source are found anyway. */
  readonly includes?: readonly string[];
  /** `wasi` by default. `none` is wasm32-unknown-unknown, without libc and start files. */
  readonly target?: "wasi" | "none";
  /** The WASI execution model, `command` by default. A reactor has `_initialize` instead of `_start`. */
  readonly model?: "command" | "reactor";
}

/** Thrown when the compiler or the linker rejects its input. `messages` is what it printed. */
export class CompileError extends Error {
  readonly messages: string;
  constructor(compiler: string, what: string, messages: string) {
    super(`${compiler} cannot build ${what}:\n${messages}`);
    this.messages = messages;
  }
}

const WASIP1 = "--target=wasm32-wasip1";
const HEADER = /\.(h|hpp|inc)$/;
const SOURCE = /\.(c|cc)$/;
const CPP = /\.cc$/;

const run = promisify(execFile);

/** Returns the compiler that CC names, after a trial run. Throws a UserError if it is missing or can't build for WASI. */
export async function findCompiler(cc = process.env.CC ?? "npm"): Promise<Compiler> {
  return cc === "npm" ? npmCompiler() : nativeCompiler(cc);
}

/** Builds a program. Returns the path of its .wasm in the cache; throws a CompileError if it does not build. */
export async function build(compiler: Compiler, program: Program): Promise<string> {
  const { inputs, flags = [], linkFlags = [] } = program;
  const linked: string[] = [];
  for (const input of inputs) {
    linked.push(SOURCE.test(input) ? await compileObject(compiler, input, program) : input);
  }
  const freestanding = program.target === "none" ? ["-nostdlib", "-Wl,--no-entry"] : [];
  const reactor = program.model === "reactor" ? ["-mexec-model=reactor"] : [];
  const args = [
    ...targetFlags(compiler, program),
    ...driverMode(inputs),
    ...flags,
    ...freestanding,
    ...reactor,
    ...linked.map(compiler.place),
    ...linkFlags,
  ];
  return compiled(compiler, args, linked, ".wasm", `a program of ${inputs.map(displayPath).join(", ")}`);
}

/** Compiles a source file. Returns the object's path in the cache; throws a CompileError if it does not compile. */
export async function compileObject(
  compiler: Compiler,
  source: string,
  program: Omit<Program, "inputs" | "linkFlags"> = {},
): Promise<string> {
  const { flags = [], includes = [] } = program;
  const headers = [
    ...(await headersIn(path.dirname(source), false)),
    ...(await Promise.all(includes.map((folder) => headersIn(folder, true)))).flat(),
  ];
  const args = [
    ...targetFlags(compiler, program),
    ...driverMode([source]),
    // The libc++ of both sysroots was built without exceptions.
    ...(CPP.test(source) ? ["-fno-exceptions"] : []),
    ...flags,
    ...includes.map((folder) => `-I${compiler.place(folder)}`),
    "-c",
    compiler.place(source),
  ];
  return compiled(compiler, args, [source, ...headers], ".o", displayPath(source));
}

function targetFlags(compiler: Compiler, { target = "wasi" }: Pick<Program, "target">): readonly string[] {
  return target === "wasi" ? compiler.wasi : ["--target=wasm32-unknown-unknown"];
}

function driverMode(inputs: readonly string[]): string[] {
  return inputs.some((input) => CPP.test(input)) ? ["--driver-mode=g++"] : [];
}

async function headersIn(folder: string, recursive: boolean): Promise<string[]> {
  const names = await readdir(path.resolve(ROOT, folder), { recursive }).catch(() => {
    throw new UserError(`the header folder ${displayPath(folder)} does not exist: run make first`);
  });
  return names
    .filter((name) => HEADER.test(name))
    .sort()
    .map((name) => path.join(folder, name));
}

/** Returns the path of what the compiler makes of `files`, cached. A CompileError calls it `what`. */
function compiled(
  compiler: Compiler,
  args: readonly string[],
  files: readonly string[],
  extension: string,
  what: string,
): Promise<string> {
  const { name, version, place } = compiler;
  return cached({ by: [name, version, ...args], of: files, place, extension }, async (output) => {
    const { ok, messages } = await compiler.run(args, files, output);
    if (!ok) throw new CompileError(name, what, messages);
    if (messages) console.error(messages.trimEnd());
  });
}

async function npmCompiler(): Promise<Compiler> {
  const manifest = path.join(ROOT, "node_modules", "@yowasp", "clang", "package.json");
  const text = await readFile(manifest, "utf8").catch(() => {
    throw new UserError("the npm package @yowasp/clang is not installed: run npm ci");
  });
  let clang: Compiler["run"] | undefined;
  return {
    name: "npm",
    version: (JSON.parse(text) as { version: string }).version,
    wasi: [WASIP1],
    place: npmPlace,
    run: (args, files, output) => (clang ??= npmClang(() => (clang = undefined)))(args, files, output),
  };
}

/** The package's clang works in a file system of its own: the project is at /, and all other files are in /outside. */
function npmPlace(file: string): string {
  const shown = displayPath(file).split(path.sep).join("/");
  return path.isAbsolute(shown) ? `outside${shown}` : shown;
}

/** Starts a process for clang. `onEnd` is called when that process has ended. */
function npmClang(onEnd: () => void): Compiler["run"] {
  const child = fork(fileURLToPath(new URL("./npm-clang.ts", import.meta.url)), {
    serialization: "advanced",
  });
  const waiting = new Map<
    number,
    { resolve: (response: Response) => void; reject: (error: Error) => void }
  >();
  let requests = 0;
  // Only the child keeps this process alive, and only while it works. The channel does not: when a child is killed, its
  // channel closes first, and this process could exit before it heard of the child's end.
  child.channel?.unref();
  child.unref();
  child.on("message", (response: Response) => {
    waiting.get(response.id)?.resolve(response);
    waiting.delete(response.id);
    if (waiting.size === 0) child.unref();
  });
  const end = (reason: string) => {
    onEnd();
    for (const { reject } of waiting.values()) reject(new Error(`the npm clang ended with ${reason}`));
    waiting.clear();
  };
  child.on("exit", (code, signal) => end(String(signal ?? code)));
  child.on("error", (error) => end(error.message));
  return async (args, files, output) => {
    const id = requests++;
    const request: Request = {
      id,
      args: [...args, "-o", npmPlace(output)],
      files: new Map(files.map((file) => [npmPlace(file), path.resolve(ROOT, file)])),
      output: npmPlace(output),
    };
    child.ref();
    const response = await new Promise<Response>((resolve, reject) => {
      waiting.set(id, { resolve, reject });
      child.send(request);
    });
    if (response.bytes) await writeFile(output, response.bytes);
    return { ok: response.bytes !== undefined, messages: response.messages };
  };
}

async function nativeCompiler(cc: string): Promise<Compiler> {
  const compile: Compiler["run"] = async (args, _files, output) => {
    try {
      const { stderr } = await run(cc, [...args, "-o", output], { cwd: ROOT, maxBuffer: 1 << 26 });
      return { ok: true, messages: stderr };
    } catch (error) {
      const { code, stderr } = error as { code?: string | number; stderr?: string };
      if (typeof code !== "number") throw error;
      return { ok: false, messages: stderr ?? "" };
    }
  };
  const version = await run(cc, ["--version"]).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw new UserError(`${cc} --version failed: set CC to npm or to a clang`);
    throw new UserError(`the compiler ${cc} was not found: install it (Debian: clang-22), or use CC=npm`);
  });
  return {
    name: cc,
    version: version.stdout,
    wasi: await wasiFlags(cc, compile),
    place: displayPath,
    run: compile,
  };
}

/**
 * Finds the flags for WASI by compiling a probe: LLVM 20 renamed wasm32-wasi to wasm32-wasip1, and a sysroot has folders for
 * either name or for both. Throws a UserError if neither works.
 */
async function wasiFlags(cc: string, compile: Compiler["run"]): Promise<string[]> {
  const folder = await mkdtemp(path.join(os.tmpdir(), "rsbmalloc-probe-"));
  const source = path.join(folder, "probe.c");
  await writeFile(source, "#include <stdlib.h>\nint main(void) { return !malloc(1); }\n");
  const failures: string[] = [];
  try {
    for (const flags of [[WASIP1], ["--target=wasm32-wasi", "-Wno-deprecated"]]) {
      const { ok, messages } = await compile([...flags, source], [source], path.join(folder, "probe.wasm"));
      if (ok) return flags;
      failures.push(messages);
    }
  } finally {
    await rm(folder, { recursive: true });
  }
  throw new UserError(compilerAdvice(cc, failures));
}

function compilerAdvice(cc: string, failures: readonly string[]): string {
  const said = failures.join("\n");
  if (/unknown target|no available targets|unable to create target|unrecognized command/.test(said)) {
    return `${cc} cannot compile for wasm32: use a clang that can (Debian: clang-22), or CC=npm`;
  }
  if (/unable to execute|doesn't exist|invalid linker/.test(said)) {
    return `${cc} cannot find wasm-ld: install lld of the same version (Debian: lld-22), or use CC=npm`;
  }
  if (/stdlib\.h|crt1|-lc\b|libc-header-start/.test(said)) {
    return `${cc} cannot find a WASI sysroot: install one (Debian: wasi-libc, libclang-rt-22-dev-wasm32), or use CC=npm`;
  }
  const reason = said.split("\n").find((line) => line.includes("error")) ?? said.split("\n")[0];
  return `${cc} cannot build a WASI program (${reason?.trim()}): fix that, or use CC=npm`;
}
