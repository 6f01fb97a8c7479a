/** Adds the core to a module: fills in the core's addresses, optimizes it and merges the two. */
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import binaryen from "binaryen";
import { exportsOf, functionsOf, globalsOf, readModule } from "../binaryen.ts";
import { RESTORE, reasonOf } from "../errors.ts";

/** The features that modules may use. Others, such as garbage collection, would change how Binaryen writes all code. */
const FEATURES: Readonly<Record<string, number>> = {
  "mutable-globals": binaryen.Features.MutableGlobals,
  "nontrapping-float-to-int": binaryen.Features.NontrappingFPToInt,
  simd: binaryen.Features.SIMD128,
  "bulk-memory": binaryen.Features.BulkMemory,
  "bulk-memory-opt": binaryen.Features.BulkMemoryOpt,
  "sign-ext": binaryen.Features.SignExt,
  "exception-handling": binaryen.Features.ExceptionHandling,
  "tail-call": binaryen.Features.TailCall,
  "reference-types": binaryen.Features.ReferenceTypes,
  multivalue: binaryen.Features.Multivalue,
  "relaxed-simd": binaryen.Features.RelaxedSIMD,
  "extended-const": binaryen.Features.ExtendedConst,
  threads: binaryen.Features.Atomics,
};

const ALL_FEATURES: binaryen.Features = Object.values(FEATURES).reduce((all, feature) => all | feature, 0);

/** Module names in a merge. */
const APP = "rsbmalloc:app";
const CORE = "rsbmalloc:core";
const SBRK = "rsbmalloc:break";

/** Names of the exports that are added to the module for the core, by the core's name for the import. */
export const LINKED = {
  memory: "rsbmalloc:memory",
  sbrk: "rsbmalloc:sbrk",
  emscripten_resize_heap: "rsbmalloc:resize",
} as const;

/** Returns the module and name from which to import the core's replacement for the function `name`. */
export function coreFunction(name: string): readonly [module: string, base: string] {
  return [CORE, exportedName(name)];
}

/** Returns a name that no export of the module itself has. */
function exportedName(name: string): string {
  return `rsbmalloc:new:${name}`;
}

/** How the core gets memory. */
export type GrowthSource = "sbrk" | "emscripten_resize_heap" | "memory.grow";

/** What the core needs to know about the module. All numbers are addresses. */
export interface Surroundings {
  readonly source: GrowthSource;
  readonly state: number;
  readonly heapBase: number;
  /** End of the initial memory. */
  readonly heapEnd: number;
  /** Address of errno; 0 if there is none. */
  readonly errno: number;
  /** Where the module's own sbrk keeps the break; 0 if there is none. */
  readonly breakAddress: number;
  /** Where rsbmalloc's sbrk keeps the break, if it is added. */
  readonly ownBreak: number;
}

const run = promisify(execFile);
const FOLDER = new URL("../../lib/swap/", import.meta.url);

/** Throws a one-line Error if Binaryen cannot read the module. */
export function parseModule(bytes: Uint8Array): binaryen.Module {
  return readModule(bytes, ALL_FEATURES, "link it without newer WebAssembly features");
}

export async function readCore(source: GrowthSource): Promise<Uint8Array<ArrayBuffer>> {
  return readProduct(source === "memory.grow" ? "core-grow.wasm" : "core-sbrk.wasm");
}

async function readProduct(name: string): Promise<Uint8Array<ArrayBuffer>> {
  const file = new URL(name, FOLDER);
  try {
    return new Uint8Array(await readFile(file));
  } catch (error) {
    throw new Error(`cannot read ${fileURLToPath(file)}: ${RESTORE}`, { cause: error });
  }
}

/** Merges the functions of `core` that `names` lists into a module that imports them. */
export async function addCore(
  app: Uint8Array,
  core: Uint8Array,
  names: readonly string[],
  surroundings: Surroundings,
  keepNames: boolean,
): Promise<Uint8Array> {
  const modules: Named[] = [
    [APP, app],
    [CORE, link(core, names, surroundings)],
  ];
  if (surroundings.source === "emscripten_resize_heap")
    modules.push([SBRK, link(await readProduct("sbrk.wasm"), ["sbrk"], surroundings)]);
  return merge(modules, keepNames);
}

/** Returns a file of lib/swap with what is known about one module filled in, and only the exports in `names`. */
function link(product: Uint8Array, names: readonly string[], surroundings: Surroundings): Uint8Array {
  const module = parseLinked(product, surroundings);
  setConstants(module, surroundings);
  const kept = exportsOf(module).filter(({ name }) => names.includes(name));
  for (const { name } of exportsOf(module)) module.removeExport(name);
  for (const { name, value } of kept) module.addFunctionExport(value, exportedName(name));
  binaryen.setDebugInfo(true);
  module.runPasses(["simplify-globals", "precompute", "remove-unused-module-elements"]);
  const bytes = write(module, true);
  module.dispose();
  return bytes;
}

/**
 * Parses a file of lib/swap with these changes: imports come from the other modules instead of `env`; functions are named
 * rsbmalloc/heap/..., so that stack traces tell whose they are; and the module's own break starts after the core's state:
 * this data segment is initialized after the module's own ones.
 */
function parseLinked(product: Uint8Array, { source, heapBase, breakAddress }: Surroundings): binaryen.Module {
  const original = parseModule(product);
  binaryen.setDebugInfo(true);
  let text = original.emitText().replaceAll(" $src/", " $rsbmalloc/");
  original.dispose();
  const places = Object.entries(LINKED).map(([name, linked]) => [name, APP, linked] as const);
  const ownSbrk = [["sbrk", SBRK, exportedName("sbrk")] as const];
  for (const [name, from, base] of [...(source === "emscripten_resize_heap" ? ownSbrk : []), ...places])
    text = text.replace(`(import "env" "${name}"`, `(import "${from}" "${base}"`);
  if (breakAddress) {
    const start = [...new Uint8Array(Uint32Array.of(heapBase).buffer)];
    const string = start.map((byte) => `\\${byte.toString(16).padStart(2, "0")}`).join("");
    text = text.replace(/\)\s*$/, `(data (i32.const ${breakAddress}) "${string}"))`);
  }
  const module = binaryen.parseText(text);
  module.setFeatures(ALL_FEATURES);
  return module;
}

/** Replaces imports with what is known about the module. */
function setConstants(module: binaryen.Module, surroundings: Surroundings): void {
  const { state, heapBase, heapEnd, errno, ownBreak } = surroundings;
  const globals: Readonly<Record<string, number>> = {
    __rsb_state: state,
    __rsb_break: ownBreak,
    __heap_base: heapBase,
    __heap_end: heapEnd,
    errno,
  };
  for (const { name, base } of globalsOf(module)) {
    if (base === null || globals[base] === undefined) continue;
    module.removeGlobal(name);
    module.addGlobal(name, binaryen.i32, false, module.i32.const(globals[base]));
  }
  for (const { name, base, params, results } of functionsOf(module)) {
    if (base !== "__errno_location") continue;
    module.removeFunction(name);
    module.addFunction(name, params, results, [], module.i32.const(errno));
  }
}

/** Returns the module's bytes, with or without function names. */
export function write(module: binaryen.Module, names: boolean): Uint8Array<ArrayBuffer> {
  binaryen.setDebugInfo(names);
  return new Uint8Array(module.emitBinary());
}

type Named = readonly [name: string, bytes: Uint8Array];

/** Merges modules: an import from the name of another module is resolved to that module's export. */
async function merge(modules: readonly Named[], keepNames: boolean): Promise<Uint8Array> {
  const folder = await temporaryFolder();
  const file = (name: string | number) => path.join(folder, `${name}.wasm`);
  try {
    for (const [i, [, bytes]] of modules.entries()) await writeFile(file(i), bytes);
    const inputs = modules.flatMap(([name], i) => [file(i), name]);
    const features = ["-mvp", ...Object.keys(FEATURES).map((name) => `--enable-${name}`)];
    const options = [
      "-o",
      file("merged"),
      "--skip-export-conflicts",
      ...features,
      ...(keepNames ? ["-g"] : []),
    ];
    await run(process.execPath, [wasmMerge(), ...inputs, ...options]);
    return new Uint8Array(await readFile(file("merged")));
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function temporaryFolder(): Promise<string> {
  try {
    return await mkdtemp(path.join(os.tmpdir(), "rsbmalloc-swap-"));
  } catch (error) {
    throw new Error(`cannot make a temporary folder, set TMPDIR to a place for one (${reasonOf(error)})`, {
      cause: error,
    });
  }
}

function wasmMerge(): string {
  const manifest = createRequire(import.meta.url).resolve("binaryen/package.json");
  return path.join(path.dirname(manifest), "bin", "wasm-merge");
}
