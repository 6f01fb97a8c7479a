/**
 * Compiles and links with Emscripten, and runs what comes out under Node. What was built once is taken from
 * the cache: it depends on the release, the flags and the contents of every input.
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

export interface Emscripten {
  /** As `emcc --version` has it. */
  readonly version: string;
}

export interface EmscriptenProgram {
  /** Sources, objects and archives: paths relative to the project's folder, or absolute. em++ takes .cc files. */
  readonly inputs: readonly string[];
  readonly flags: readonly string[];
  /** `program.js` by default. The .wasm lies beside it. */
  readonly output?: string;
  /** Variables that emcc finds besides its usual ones. */
  readonly environment?: NodeJS.ProcessEnv;
}

export interface EmscriptenResult {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number;
}

/** The link flags that put rsbmalloc in the place of Emscripten's malloc. */
export const RSBMALLOC = ["-sMALLOC=none", "lib/wasm32-emscripten/librsbmallocc.a"];

/** The link flags for one of the mallocs that programs are compared with: Emscripten's own, or rsbmalloc. */
export function linkMalloc(name: string): readonly string[] {
  return name === "rsbmalloc" ? RSBMALLOC : [`-sMALLOC=${name}`];
}

/** Emscripten refused its input. */
export class EmscriptenError extends Error {}

/** Debian's node packages. Its emcc needs acorn from there, and does not look for it. */
const DEBIAN_NODE_PATH = "/usr/share/nodejs";

const run = promisify(execFile);

/** For --closure. Debian's emcc comes without a Closure Compiler. */
const CLOSURE_COMPILER = path.join(ROOT, "node_modules", ".bin", "google-closure-compiler");
/** The compiler is newer than Debian's emcc: it has the language by another name, and knows WebGPU itself. */
const CLOSURE_ARGS = "--language_in=UNSTABLE --jscomp_off=checkVars";

/** What Emscripten's commands are run with. */
export function emscriptenEnvironment(): NodeJS.ProcessEnv {
  return {
    NODE_PATH: DEBIAN_NODE_PATH,
    EM_CLOSURE_COMPILER: CLOSURE_COMPILER,
    EMCC_CLOSURE_ARGS: CLOSURE_ARGS,
    ...process.env,
  };
}

/** Emscripten as PATH has it. Throws a UserError if it is missing or does not start. */
export async function findEmscripten(): Promise<Emscripten> {
  const { stdout } = await run("emcc", ["--version"], { env: emscriptenEnvironment() }).catch(
    (error: Error) => {
      if ("code" in error && error.code === "ENOENT")
        throw new UserError("there is no emcc: install Emscripten (Debian: emscripten)");
      throw new UserError(`emcc --version fails (${reasonOf(error)}): mend the Emscripten installation`);
    },
  );
  return { version: stdout.split("\n")[0]! };
}

/** Builds a program and returns the path of its JavaScript in the cache. Throws an EmscriptenError with emcc's messages. */
export async function buildEmscripten(
  emscripten: Emscripten,
  { inputs, flags, output = "program.js", environment }: EmscriptenProgram,
): Promise<string> {
  const driver = inputs.some((input) => /\.(cc|cpp)$/.test(input)) ? "em++" : "emcc";
  // Flags name files too: libraries, scripts to embed.
  const files = [...inputs, ...flags.filter((flag) => existsSync(path.resolve(ROOT, flag)))];
  const by = [emscripten.version, driver, output, ...flags];
  const folder = await cached({ by, of: files }, async (unfinished) => {
    await mkdir(unfinished);
    // Its .js is no ES module, as the project's would be.
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

/** Runs JavaScript that Emscripten made, or a script that loads it, in a process of its own. */
export async function runEmscripten(
  script: string,
  args: readonly string[] = [],
  stdin = "",
): Promise<EmscriptenResult> {
  // Programs read from a file: of a pipe they take a pause for the end.
  const folder = await mkdtemp(path.join(os.tmpdir(), "rsbmalloc-emscripten-"));
  const input = path.join(folder, "stdin");
  await writeFile(input, stdin);
  const file = await open(input);
  try {
    // Emscripten before 3.1.7 takes the presence of fetch for a browser.
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
