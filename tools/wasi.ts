/** Runs WASI programs with either of two runtimes: Node's own (`node:wasi`) or `@wasmer/wasi`. */
import { createHash } from "node:crypto";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import v8 from "node:v8";
import * as wasmer from "@wasmer/wasi";
import { importNodeWasi } from "../npm/node-wasi.ts";

export const RUNTIMES = ["node", "wasmer"] as const;
export type Runtime = (typeof RUNTIMES)[number];

export interface RunOptions {
  /** The program's name: argv[0], `program` by default. */
  readonly name?: string;
  /** The arguments after the program's name. */
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: string | Uint8Array;
  /** Imported as env.memory, for a program linked with --import-memory. */
  readonly memory?: WebAssembly.Memory;
  /** Further imports. */
  readonly imports?: WebAssembly.Imports;
  /** The seed of WASI's random numbers, which makes a run repeatable. */
  readonly seed?: number;
}

export interface Trap {
  readonly message: string;
  readonly stack: string;
}

export interface Result {
  readonly stdout: string;
  readonly stderr: string;
  /** Absent after a trap. */
  readonly exitCode?: number;
  /** Set if the program trapped, as abort() does, or ran out of stack. */
  readonly trap?: Trap;
  /** Size of linear memory at the end, in bytes. This is also its peak, since linear memory never shrinks. */
  readonly memory: number;
}

/** An initialized reactor: its exports may be called. */
export interface Reactor {
  readonly exports: WebAssembly.Exports;
  readonly memory: WebAssembly.Memory;
}

/** An instance made by a runtime, which can start it as a command or initialize it as a reactor. */
interface Session {
  readonly instance: WebAssembly.Instance;
  readonly start: () => number;
  readonly initialize: () => void;
  /** Ends the session. Returns what the program wrote. */
  readonly finish: () => Pick<Result, "stdout" | "stderr">;
}

const SESSIONS: Readonly<
  Record<Runtime, (module: WebAssembly.Module, options: RunOptions) => Promise<Session>>
> = { node: nodeSession, wasmer: wasmerSession };

const WASI_MODULE = "wasi_snapshot_preview1";

/** Runs a command until it exits or traps. `program` is a path or, to compile only once for many runs, a module. */
export async function runProgram(
  runtime: Runtime,
  program: string | WebAssembly.Module,
  options: RunOptions = {},
): Promise<Result> {
  const session = await SESSIONS[runtime](await compile(program), options);
  let output: ReturnType<Session["finish"]>;
  let end: ReturnType<typeof attempt>;
  try {
    end = attempt(session.start);
  } finally {
    output = session.finish();
  }
  return { ...output, ...end, memory: memoryOf(session.instance, options).buffer.byteLength };
}

/** Makes an instance of a reactor and calls its `_initialize`, if any. Its output is discarded. */
export async function startReactor(
  runtime: Runtime,
  program: string | WebAssembly.Module,
  options: RunOptions = {},
): Promise<Reactor> {
  const session = await SESSIONS[runtime](await compile(program), options);
  try {
    session.initialize();
  } finally {
    session.finish();
  }
  return { exports: session.instance.exports, memory: memoryOf(session.instance, options) };
}

function argv({ name = "program", args = [] }: RunOptions): string[] {
  return [name, ...args];
}

async function compile(program: string | WebAssembly.Module): Promise<WebAssembly.Module> {
  return typeof program === "string" ? WebAssembly.compile(await readFile(program)) : program;
}

function memoryOf({ exports }: WebAssembly.Instance, { memory }: RunOptions): WebAssembly.Memory {
  return memory ?? (exports.memory as WebAssembly.Memory);
}

function attempt(start: () => number): Pick<Result, "exitCode" | "trap"> {
  try {
    return { exitCode: start() };
  } catch (error) {
    if (!(error instanceof WebAssembly.RuntimeError || error instanceof RangeError)) throw error;
    return { trap: { message: error.message, stack: error.stack ?? "" } };
  }
}

function initialize({ exports }: WebAssembly.Instance): void {
  (exports._initialize as (() => void) | undefined)?.();
}

async function nodeSession(module: WebAssembly.Module, options: RunOptions): Promise<Session> {
  // Otherwise V8 calls Node's WASI functions straight from wasm ("fast API calls"). They allocate, and once memory has grown
  // a lot, that starts a garbage collection, which must not happen within a fast call: Node 20 crashes, whether or not
  // anything refers to the WASI object (https://github.com/nodejs/node/issues/46777).
  v8.setFlagsFromString("--no-turbo-fast-api-calls");
  const { WASI } = await (nodeWasi ??= importNodeWasi());
  const folder = mkdtempSync(path.join(os.tmpdir(), "rsbmalloc-run-"));
  const [stdinFile, stdoutFile, stderrFile] = ["stdin", "stdout", "stderr"].map((name) =>
    path.join(folder, name),
  ) as [string, string, string];
  writeFileSync(stdinFile, options.stdin ?? "");
  const stdin = openSync(stdinFile, "r");
  const stdout = openSync(stdoutFile, "w");
  const stderr = openSync(stderrFile, "w");
  const wasi = new WASI({
    version: "preview1",
    args: argv(options),
    env: { ...options.env },
    stdin,
    stdout,
    stderr,
    returnOnExit: true,
  });
  const finish = () => {
    for (const file of [stdin, stdout, stderr]) closeSync(file);
    const output = { stdout: readFileSync(stdoutFile, "utf8"), stderr: readFileSync(stderrFile, "utf8") };
    rmSync(folder, { recursive: true });
    return output;
  };
  const imports = wasi.getImportObject() as WebAssembly.Imports;
  const instance = await instantiate(module, imports, options).catch((error: unknown) => {
    finish();
    throw error;
  });
  return {
    instance,
    // The type says void, but with returnOnExit it returns the exit code.
    start: () => wasi.start(instance) as unknown as number,
    initialize: () => wasi.initialize(instance),
    finish,
  };
}

/** Imported only once: each import asks the thread that loads modules, and now and then Node 20 waits forever for the answer. */
let nodeWasi: ReturnType<typeof importNodeWasi> | undefined;

async function wasmerSession(module: WebAssembly.Module, options: RunOptions): Promise<Session> {
  if (!WebAssembly.Module.imports(module).some((item) => item.module.startsWith("wasi_"))) {
    return bareSession(module, options);
  }
  await wasmer.init();
  const wasi = new wasmer.WASI({ args: argv(options), env: { ...options.env } });
  if (options.stdin !== undefined) {
    const { stdin } = options;
    wasi.setStdinBuffer(typeof stdin === "string" ? new TextEncoder().encode(stdin) : stdin);
  }
  const instance = await instantiate(module, wasi.getImports(module) as WebAssembly.Imports, options);
  wasi.instantiate(instance);
  return {
    instance,
    start: () => {
      try {
        return wasi.start(instance);
      } catch (error) {
        throw innerTrap(error);
      }
    },
    initialize: () => initialize(instance),
    finish: () => ({ stdout: wasi.getStdoutString(), stderr: wasi.getStderrString() }),
  };
}

/** For modules without WASI imports, such as small reactors: @wasmer/wasi rejects them. */
async function bareSession(module: WebAssembly.Module, options: RunOptions): Promise<Session> {
  const instance = await instantiate(module, {}, options);
  return {
    instance,
    start: () => {
      (instance.exports._start as () => void)();
      return 0;
    },
    initialize: () => initialize(instance),
    finish: () => ({ stdout: "", stderr: "" }),
  };
}

/** Extracts the trap from an Error that @wasmer/wasi throws: its message is `...JsValue(RuntimeError: MESSAGE\nSTACK...`. */
function innerTrap(error: unknown): unknown {
  const trap = /JsValue\((?:RuntimeError|RangeError): (.*?)\n/.exec(String(error));
  if (!trap) return error;
  return Object.assign(new WebAssembly.RuntimeError(trap[1]), { stack: (error as Error).message });
}

/** Makes an instance that imports WASI's functions and, added or in their place, those of the options. */
async function instantiate(
  module: WebAssembly.Module,
  wasi: WebAssembly.Imports,
  options: RunOptions,
): Promise<WebAssembly.Instance> {
  const { memory, seed } = options;
  const imports: WebAssembly.Imports = {
    ...wasi,
    ...options.imports,
    ...(memory ? { env: { memory } } : {}),
  };
  if (seed !== undefined) {
    const random_get = (at: number, count: number): number => {
      const bytes = createHash("sha256").update(String(seed)).digest().subarray(0, count);
      new Uint8Array(memoryOf(instance, options).buffer).set(bytes, at);
      return 0;
    };
    imports[WASI_MODULE] = { ...imports[WASI_MODULE], random_get };
  }
  const instance = await WebAssembly.instantiate(module, imports);
  return instance;
}
