/** Runs WASI programs under two runtimes: Node's own (`node:wasi`) and `@wasmer/wasi`. */
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
  /** The program's name, as it finds it before its arguments. */
  readonly name?: string;
  /** Those after the program's name. */
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: string | Uint8Array;
  /** Handed in as env.memory, for a program linked with --import-memory. */
  readonly memory?: WebAssembly.Memory;
  /** What it imports besides. */
  readonly imports?: WebAssembly.Imports;
  /** What the host's random numbers follow from, so that a run can be repeated. */
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
  /** Set if the program trapped (abort() does) or ran out of stack. */
  readonly trap?: Trap;
  /** Bytes of linear memory at the end, and as linear memory never shrinks, at its peak. */
  readonly memory: number;
}

/** A reactor: an instance that was initialized and whose exports may now be called. */
export interface Reactor {
  readonly exports: WebAssembly.Exports;
  readonly memory: WebAssembly.Memory;
}

/** What a runtime has to do: make an instance that it can start as a command or initialize as a reactor. */
interface Session {
  readonly instance: WebAssembly.Instance;
  readonly start: () => number;
  readonly initialize: () => void;
  /** What the program wrote. Ends the session. */
  readonly finish: () => Pick<Result, "stdout" | "stderr">;
}

const SESSIONS: Readonly<
  Record<Runtime, (module: WebAssembly.Module, options: RunOptions) => Promise<Session>>
> = { node: nodeSession, wasmer: wasmerSession };

const WASI_MODULE = "wasi_snapshot_preview1";

/** Runs a command from its start to its exit. `program` is a path, or a module that is run repeatedly. */
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

/** Makes an instance of a reactor and calls its `_initialize`, if it has one. Its output is dropped. */
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
  // In Node 20, a program that calls WASI for long enough crashes the process: V8 takes a short cut from wasm into Node's
  // functions, and that does not survive a garbage collection. Without the short cut it does.
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
    // Typed as if it returned nothing; with returnOnExit it returns the exit code.
    start: () => wasi.start(instance) as unknown as number,
    initialize: () => wasi.initialize(instance),
    finish,
  };
}

/** Imported once: each import asks the thread that loads modules, and now and then Node 20 waits for its answer for ever. */
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

/** @wasmer/wasi refuses a module that imports nothing of WASI, as a small reactor may. */
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

/** @wasmer/wasi throws an Error whose message holds the trap's message and stack: `...JsValue(RuntimeError: ...`. */
function innerTrap(error: unknown): unknown {
  const trap = /JsValue\((?:RuntimeError|RangeError): (.*?)\n/.exec(String(error));
  if (!trap) return error;
  return Object.assign(new WebAssembly.RuntimeError(trap[1]), { stack: (error as Error).message });
}

/** Makes an instance with WASI's functions, and what the options have in their place or besides. */
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
