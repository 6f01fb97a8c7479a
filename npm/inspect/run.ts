/** Runs a WASI program under `node:wasi` and reads its heap, at the end and meanwhile. */
import { opendir, readFile } from "node:fs/promises";
import { runInNewContext } from "node:vm";
import { compileProgram } from "../compile.ts";
import { reasonOf } from "../errors.ts";
import { importNodeWasi } from "../node-wasi.ts";
import { withBinaryen } from "../with-binaryen.ts";
import { withClock } from "./clock.ts";
import type { Layout } from "./layout.ts";
import { recordAllocations, wasmFrames } from "./leaks.ts";
import { lookAt, totals, type End, type RunReport, type Sample } from "./report.ts";
import { watch, type Every } from "./timeline.ts";
import { TRACE_MODULE } from "./traced.ts";

export interface RunOptions {
  /** Arguments after the program's name. */
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Folders that the program may use, by the names that it sees. */
  readonly folders?: Readonly<Record<string, string>>;
  /** How often to sample the heap. By default sampling takes up to a twentieth of the time. */
  readonly every?: Every;
  /** Whether to record where blocks that are never freed come from. */
  readonly leaks?: boolean;
  /** The file descriptor of the program's standard output, 1 by default. */
  readonly stdout?: number;
  /** Stops the program after this many whole milliseconds and reports on its heap then. By default there is no limit. */
  readonly timeLimit?: number;
  /** Called with each sample while the program runs, if `every` is given. */
  readonly onSample?: (sample: Sample) => void;
}

/** The program cannot be run; the message is one line. */
export class ProgramError extends Error {}

/** Milliseconds between opportunities to take a sample. */
const TICK = 10;

type Functions = Record<string, (...values: never[]) => unknown>;

/**
 * The programs that are running. They refer to their WASI objects, which so are not collected while in use: Node 20 was
 * seen to crash here. The known cause of such crashes, V8's fast calls from wasm to WASI functions
 * (https://github.com/nodejs/node/issues/46777), is ruled out by `observed`: wasm calls a JavaScript function, and that
 * calls WASI's.
 */
const alive = new Set<Loaded>();

/**
 * Runs the program in the file `program` and reports on it. `leaks` and `every.calls` require that it has function names.
 * Throws a ProgramError if it cannot be run.
 */
export async function inspect(
  program: string,
  layouts: readonly Layout[],
  options: RunOptions = {},
): Promise<RunReport> {
  const { args = [], every, leaks = false } = options;
  const module = await load(program, leaks || every?.calls !== undefined);
  for (const folder of Object.values(options.folders ?? {})) await checkFolder(folder);

  let memory: WebAssembly.Memory | undefined;
  let peak = 0;
  const look = (): Pick<Sample, "memory" | "heap" | "inUse"> => {
    const { heap, inUse } = totals(lookAt(memory, layouts).heaps);
    peak = Math.max(peak, inUse);
    return { memory: memory?.buffer.byteLength ?? 0, heap, inUse };
  };
  const timeline = watch(look, every, options.onSample);
  const word = (address: number): number => new DataView(memory!.buffer).getUint32(address, true);
  const recorder = recordAllocations(word, leaks, timeline.onAllocation);

  const { enter, leave } = recorder;
  const loaded = await prepare(program, module, options, timeline.onMoment, { enter, leave });
  memory = loaded.memory;

  const { timeLimit } = options;
  if (timeLimit !== undefined && !(Number.isInteger(timeLimit) && timeLimit > 0))
    throw new Error(`timeLimit must be a positive whole number of milliseconds: ${timeLimit}`);
  let begin = 0;
  const finish = (end: End) => ({ end, ms: performance.now() - begin, samples: timeline.take() });
  const ran = await withClock(every?.ms ?? TICK, timeline.onMoment, () => {
    alive.add(loaded);
    timeline.start();
    begin = performance.now();
    return finish(run(loaded.start, timeLimit));
  }).finally(() => alive.delete(loaded));
  const { end, ms, samples } = ran ?? finish({ timeLimit: timeLimit! });
  return {
    program,
    args,
    end,
    ms,
    memory: memory.buffer.byteLength,
    peak,
    ...lookAt(memory, layouts),
    timeline: samples,
    ...(leaks ? { leaks: recorder.report() } : {}),
  };
}

/** A program that is ready to run. */
interface Loaded {
  readonly memory: WebAssembly.Memory;
  /** Runs it to its end. Returns the exit code. */
  readonly start: () => number;
}

/** `before` is called before each call to WASI; `trace` has the functions that a traced module imports. */
async function prepare(
  program: string,
  module: WebAssembly.Module,
  { args = [], env, folders, stdout = 1 }: RunOptions,
  before: () => void,
  trace: WebAssembly.ModuleImports,
): Promise<Loaded> {
  const { WASI } = await importNodeWasi();
  // Other engines implement only a part of node:wasi.
  if (!("getImportObject" in WASI.prototype)) throw new ProgramError("inspect needs Node.js");
  const wasi = new WASI({
    version: "preview1",
    args: [program, ...args],
    env: { ...env },
    preopens: { ...folders },
    stdout,
    returnOnExit: true,
  });
  const host = Object.entries(wasi.getImportObject() as Record<string, Functions>);
  const instance = instantiate(program, module, {
    ...Object.fromEntries(host.map(([name, calls]) => [name, observed(calls, before)])),
    [TRACE_MODULE]: trace,
  });
  return {
    memory: memoryOf(program, instance),
    start: () => {
      // Its type says that it returns nothing, but with returnOnExit it returns the exit code.
      if ("_start" in instance.exports) return wasi.start(instance) as unknown as number;
      wasi.initialize(instance);
      return 0;
    },
  };
}

async function load(program: string, traced: boolean): Promise<WebAssembly.Module> {
  // Binaryen is slow to load.
  const tracer = traced ? await withBinaryen(() => import("./trace.ts")) : undefined;
  try {
    const bytes = await readFile(program);
    // Compile it first: Binaryen would end the process if the module is invalid.
    const module = compileProgram(bytes);
    return tracer ? await WebAssembly.compile(tracer.traceModule(bytes) as BufferSource) : module;
  } catch (error) {
    throw failure(program, error);
  }
}

/** Throws a ProgramError that names the folder if it cannot be opened: `node:wasi` would not name it. */
async function checkFolder(folder: string): Promise<void> {
  try {
    await (await opendir(folder)).close();
  } catch (error) {
    throw failure(folder, error);
  }
}

function instantiate(
  program: string,
  module: WebAssembly.Module,
  imports: WebAssembly.Imports,
): WebAssembly.Instance {
  const missing = WebAssembly.Module.imports(module).find(
    ({ module, name }) => imports[module]?.[name] === undefined,
  );
  if (missing)
    throw new ProgramError(
      `${program}: imports ${missing.module}.${missing.name}, which is not part of WASI preview 1${missing.module === "env" ? " (for programs that need JavaScript or threads, see showHeap in docs/inspect.md)" : ""}`,
    );
  try {
    return new WebAssembly.Instance(module, imports);
  } catch (error) {
    throw failure(program, error);
  }
}

function memoryOf(program: string, { exports }: WebAssembly.Instance): WebAssembly.Memory {
  const { memory, _start, _initialize } = exports;
  if (!(memory instanceof WebAssembly.Memory)) throw new ProgramError(`${program}: exports no memory`);
  if (typeof (_start ?? _initialize) !== "function")
    throw new ProgramError(`${program}: not a WASI program: it exports neither _start nor _initialize`);
  return memory;
}

function run(start: () => number, timeLimit: number | undefined): End {
  try {
    // A time limit on the script that calls it is what can end WebAssembly that runs forever.
    const call =
      timeLimit === undefined ? start : () => runInNewContext("start()", { start }, { timeout: timeLimit });
    return { exitCode: call() as number };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ERR_SCRIPT_EXECUTION_TIMEOUT")
      return { timeLimit: timeLimit! };
    // Unlike a trap, it has no message and no stack.
    if (error instanceof WebAssembly.Exception) return { trap: "uncaught exception", stack: [] };
    if (!(error instanceof WebAssembly.RuntimeError || error instanceof RangeError)) throw error;
    return { trap: error.message, stack: wasmFrames(error.stack ?? "") };
  }
}

function observed(calls: Functions, before: () => void): Functions {
  const observe =
    (call: (...values: never[]) => unknown) =>
    (...values: never[]): unknown => {
      before();
      return call(...values);
    };
  return Object.fromEntries(Object.entries(calls).map(([name, call]) => [name, observe(call)]));
}

function failure(program: string, error: unknown): ProgramError {
  return new ProgramError(`${program}: ${reasonOf(error)}`, { cause: error });
}
