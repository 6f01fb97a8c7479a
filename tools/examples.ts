/** The programs in c-examples/: how to build and run each, for the demo and the tests. */
import { readFile } from "node:fs/promises";
import path from "node:path";
import { ROOT } from "./command.ts";
import { build, type Compiler, type Program } from "./compiler.ts";
import { library } from "./libraries.ts";
import { runProgram, type Result, type Runtime } from "./wasi.ts";

export interface Example {
  readonly name: string;
  readonly source: string;
  /** One line that `make demo` prints. */
  readonly about: string;
  readonly library: string;
  readonly flags?: readonly string[];
  readonly linkFlags?: readonly string[];
  /** Whether it runs without WASI, with imports of its own. */
  readonly freestanding?: boolean;
}

function example(source: string, about: string, rest: Partial<Example> = {}): Example {
  const { name } = path.parse(source);
  return { name, source: `c-examples/${source}`, about, library: library("wasm32-wasi"), ...rest };
}

export const EXAMPLES: readonly Example[] = [
  example("hello-malloc.c", "plain malloc, realloc, calloc"),
  example("two-heaps.c", "rsbmalloc beside libc's malloc", { library: library("wasm32-wasi", "prefixed") }),
  example("growing-vector.c", "a vector that uses all the room in its blocks"),
  example("hash-map.c", "a hash map that counts words"),
  example("simd-buffers.c", "over-aligned buffers for vector code", { flags: ["-msimd128"] }),
  example("page-allocator.c", "an arena on the page allocator"),
  example("out-of-memory.c", "carrying on after memory has run out", {
    flags: ["-fno-builtin"],
    linkFlags: ["-Wl,--max-memory=4194304"],
  }),
  example("freestanding.c", "no libc and no WASI", { freestanding: true }),
  example("containers.cc", "C++: new, containers, over-aligned types", { flags: ["-std=c++17"] }),
];

const WARNINGS = ["-Wall", "-Wextra", "-Werror"];

/** Builds an example with the flags that the comment in its source gives. */
export function buildExample(compiler: Compiler, example: Example): Promise<string> {
  const { source, library, flags = [], linkFlags = [], freestanding } = example;
  const program: Program = {
    inputs: [source, library],
    flags: ["-O2", ...WARNINGS, ...flags],
    linkFlags,
    includes: ["include"],
    target: freestanding ? "none" : "wasi",
  };
  return build(compiler, program);
}

/** Runs an example. A freestanding one needs only the engine, so `runtime` does not matter. */
export function runExample(example: Example, file: string, runtime: Runtime): Promise<Result> {
  return example.freestanding ? runFreestanding(file) : runProgram(runtime, file);
}

/** Returns what the example has to print. */
export function expectedOutput({ name }: Example): Promise<string> {
  return readFile(path.join(ROOT, "c-examples", `${name}.expected`), "utf8");
}

/** Runs c-examples/freestanding.c with the function that it imports. */
async function runFreestanding(file: string): Promise<Result> {
  let stdout = "";
  const print = (text: number, length: number) => {
    stdout += new TextDecoder().decode(new Uint8Array(memory.buffer, text, length));
  };
  const { instance } = await WebAssembly.instantiate(await readFile(file), { host: { print } });
  const { memory, run } = instance.exports as {
    memory: WebAssembly.Memory;
    run: (exponent: number) => number;
  };
  const exitCode = run(200);
  return { stdout, stderr: "", exitCode, memory: memory.buffer.byteLength };
}
