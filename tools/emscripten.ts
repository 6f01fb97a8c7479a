/**
 * Builds programs with Emscripten and runs them in Node. Results are cached; the key covers Emscripten's version, the flags
 * and the contents of every input.
 */
import { execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, open, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { reasonOf } from "../npm/errors.ts";
import { cached } from "./cache.ts";
import { ROOT, UserError, displayPath } from "./command.ts";
import { library } from "./libraries.ts";

export interface Emscripten {
  /** The first line of `emcc --version`. */
  readonly version: string;
}

export interface EmscriptenProgram {
  /** Sources, objects and archives: paths relative to the project's folder, or absolute. With a C++ source, em++ builds. */
  readonly inputs: readonly string[];
  readonly flags: readonly string[];
  /** The name of the output, `program.js` by default. The .wasm is beside it. */
  readonly output?: string;
  /** Additional environment variables for emcc. */
  readonly environment?: NodeJS.ProcessEnv;
}

export interface EmscriptenResult {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number;
}

/** Returns the link flags that replace Emscripten's malloc by rsbmalloc or a variant of it. */
export function linkLibrary(variant = ""): string[] {
  return ["-sMALLOC=none", library("wasm32-emscripten", variant)];
}

/** Returns the link flags for rsbmalloc or for one of Emscripten's own mallocs. */
export function linkMalloc(name: string): readonly string[] {
  return name === "rsbmalloc" ? linkLibrary() : [`-sMALLOC=${name}`];
}

/** Thrown when Emscripten rejects its input. The message contains what it printed. */
export class EmscriptenError extends Error {}

/** Where Debian installs Node packages. Its emcc needs acorn, but does not look for it there. */
const DEBIAN_NODE_PATH = "/usr/share/nodejs";

const run = promisify(execFile);

/** For --closure: Debian's emcc comes without a Closure Compiler. */
const CLOSURE_COMPILER = path.join(ROOT, "node_modules", ".bin", "google-closure-compiler");
/** This Closure Compiler is newer than Debian's emcc: it has another name for the language, and declares WebGPU itself. */
const CLOSURE_ARGS = "--language_in=UNSTABLE --jscomp_off=checkVars";

/** Returns the environment to run Emscripten's commands in. */
export function emscriptenEnvironment(): NodeJS.ProcessEnv {
  return {
    NODE_PATH: DEBIAN_NODE_PATH,
    EM_CLOSURE_COMPILER: CLOSURE_COMPILER,
    EMCC_CLOSURE_ARGS: CLOSURE_ARGS,
    ...process.env,
  };
}

/** Finds Emscripten in PATH. Throws a UserError if it is missing or does not start. */
export async function findEmscripten(): Promise<Emscripten> {
  const { stdout } = await run("emcc", ["--version"], { env: emscriptenEnvironment() }).catch(
    (error: Error) => {
      if ("code" in error && error.code === "ENOENT")
        throw new UserError("emcc was not found: install Emscripten (Debian: emscripten)");
      throw new UserError(`emcc --version failed (${reasonOf(error)}): repair the Emscripten installation`);
    },
  );
  return { version: stdout.split("\n")[0]! };
}

/** Builds a program. Returns the path of its JavaScript in the cache; throws an EmscriptenError if it does not build. */
export async function buildEmscripten(
  emscripten: Emscripten,
  { inputs, flags, output = "program.js", environment }: EmscriptenProgram,
): Promise<string> {
  const driver = inputs.some((input) => /\.(cc|cpp)$/.test(input)) ? "em++" : "emcc";
  // Flags can name files too: libraries, and scripts to embed.
  const files = [...inputs, ...flags.filter((flag) => existsSync(path.resolve(ROOT, flag)))];
  const by = [emscripten.version, driver, output, ...flags];
  const folder = await cached({ by, of: files }, async (unfinished) => {
    await mkdir(unfinished);
    // The .js is CommonJS; the project's package.json would make it an ES module.
    await writeFile(path.join(unfinished, "package.json"), JSON.stringify({ type: "commonjs" }));
    const args = [...inputs, ...flags, "-o", path.join(unfinished, output)];
    const env = { ...emscriptenEnvironment(), ...environment };
    await run(driver, args, { cwd: ROOT, env, maxBuffer: 1 << 26 }).catch((error: Error) => {
      const said = "stderr" in error ? String(error.stderr) : error.message;
      throw new EmscriptenError(`${driver} cannot build ${inputs.map(displayPath).join(", ")}:\n${said}`);
    });
  });
  return path.join(folder, output);
}

/** Runs JavaScript made by Emscripten, or a script that loads it, in a process of its own. */
export async function runEmscripten(
  script: string,
  args: readonly string[] = [],
  stdin = "",
): Promise<EmscriptenResult> {
  // Standard input is a file: on a pipe, these programs take a pause for the end of input.
  const folder = await mkdtemp(path.join(os.tmpdir(), "rsbmalloc-emscripten-"));
  const input = path.join(folder, "stdin");
  await writeFile(input, stdin);
  const file = await open(input);
  try {
    // If there is a fetch, Emscripten before 3.1.7 thinks that it is in a browser.
    const child = spawn(process.execPath, ["--no-experimental-fetch", script, ...args], {
      cwd: os.tmpdir(),
      stdio: [file.fd, "pipe", "pipe"],
    });
    let stdout = "";
    let stderr = "";
    child.stdout!.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    child.stderr!.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    return await new Promise((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (code, signal) => {
        if (code === null) reject(new Error(`${path.basename(script)} ended with ${signal}`));
        else resolve({ stdout, stderr, exitCode: code });
      });
    });
  } finally {
    await file.close();
    await rm(folder, { recursive: true });
  }
}
