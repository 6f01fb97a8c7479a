/** Puts the core into a module: what it needs to know is linked to it, it is optimized, and the two are merged. */
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import binaryen from "binaryen";

/** The features that modules may have. Others, such as garbage collection, would change how all code is written. */
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

/** Names of modules in a merge, and of what they export to one another. */
export const APP = "rsbmalloc:app";
export const CORE = "rsbmalloc:core";
export const LINKED = {
  memory: "rsbmalloc:memory",
  sbrk: "rsbmalloc:sbrk",
  resize: "rsbmalloc:resize",
} as const;

/** Where the core gets memory from. */
export type MemorySource = "sbrk" | "emscripten_resize_heap" | "memory.grow";

/** What the core is told about the module. Addresses in bytes. */
export interface Surroundings {
  readonly source: MemorySource;
  readonly state: number;
  readonly heapBase: number;
  /** The end of the memory that is there from the start. */
  readonly heapEnd: number;
  /** 0 if there is none. */
  readonly errno: number;
  /** The word that a module's own sbrk keeps the break in; 0 if it has none. */
  readonly breakAddress: number;
  /** Where the sbrk that is brought along keeps it. */
  readonly ownBreak: number;
}

const run = promisify(execFile);
const FOLDER = new URL("../../lib/swap/", import.meta.url);

export function readModule(bytes: Uint8Array): binaryen.Module {
  return binaryen.readBinaryWithFeatures(bytes, ALL_FEATURES);
}

export async function readCore(source: MemorySource): Promise<Uint8Array> {
  return readFile(new URL(source === "memory.grow" ? "core-grow.wasm" : "core-sbrk.wasm", FOLDER));
}

/** The core as it stands in one module alone: it imports from APP, and exports `names` with CORE before them. */
export async function linkCore(
  core: Uint8Array,
  names: readonly string[],
  surroundings: Surroundings,
): Promise<Uint8Array> {
  const glue = binaryen.parseText(glueText(surroundings));
  let surrounding = glue.emitBinary();
  glue.dispose();
  if (surroundings.source === "emscripten_resize_heap") {
    const sbrk = await readFile(new URL("sbrk.wasm", FOLDER));
    surrounding = await merge([
      ["env", surrounding],
      ["sbrk", sbrk],
    ]);
  }
  const merged = await merge([
    ["env", surrounding],
    [CORE, core],
  ]);
  const module = withOwnNames(readModule(merged));
  const kept = new Map<string, string>();
  for (const { name, value } of exportsOf(module)) {
    module.removeExport(name);
    if (names.includes(name)) kept.set(name, value);
  }
  for (const [name, value] of kept) module.addFunctionExport(value, `${CORE}:${name}`);
  binaryen.setOptimizeLevel(3);
  binaryen.setShrinkLevel(0);
  binaryen.setDebugInfo(true);
  module.optimize();
  return emit(module, true);
}

/** Functions named rsbmalloc/heap/..., so that a stack trace tells whose they are. */
function withOwnNames(core: binaryen.Module): binaryen.Module {
  binaryen.setDebugInfo(true);
  const text = core.emitText();
  core.dispose();
  const module = binaryen.parseText(text.replaceAll(" $src/", " $rsbmalloc/"));
  module.setFeatures(ALL_FEATURES);
  return module;
}

export function exportsOf(module: binaryen.Module): binaryen.ExportInfo[] {
  return Array.from({ length: module.getNumExports() }, (_, i) =>
    binaryen.getExportInfo(module.getExportByIndex(i)),
  );
}

/** Writes a module and gives its memory back. */
export function emit(module: binaryen.Module, names: boolean): Uint8Array<ArrayBuffer> {
  binaryen.setDebugInfo(names);
  const bytes = new Uint8Array(module.emitBinary());
  module.dispose();
  return bytes;
}

/** What the core imports from env. */
function glueText({ source, state, heapBase, heapEnd, errno, breakAddress, ownBreak }: Surroundings): string {
  const constants = {
    __rsb_state: state,
    __heap_base: heapBase,
    __heap_end: heapEnd,
    errno,
    __rsb_break: ownBreak,
  };
  const globals = Object.entries(constants).map(
    ([name, value]) => `(global (export "${name}") i32 (i32.const ${value}))`,
  );
  const passedOn = (name: string, linked: string) =>
    `(import "${APP}" "${linked}" (func $${name} (param i32) (result i32))) (export "${name}" (func $${name}))`;
  const functions = {
    sbrk: [passedOn("sbrk", LINKED.sbrk)],
    emscripten_resize_heap: [passedOn("emscripten_resize_heap", LINKED.resize)],
    "memory.grow": [],
  }[source];
  // The break starts after the core's state. This initial value comes after the module's own.
  const start = new Uint8Array(Uint32Array.of(heapBase).buffer);
  const data = `(data (i32.const ${breakAddress}) "${[...start].map((byte) => `\\${byte.toString(16).padStart(2, "0")}`).join("")}")`;
  return `(module
    (import "${APP}" "${LINKED.memory}" (memory $memory 0)) (export "memory" (memory $memory))
    ${functions.join("\n")}
    ${globals.join("\n")}
    (func (export "__errno_location") (result i32) (i32.const ${errno}))
    ${breakAddress ? data : ""})`;
}

/** Merges modules: what one imports by the name of another comes from that one's exports. */
export async function merge(
  modules: readonly (readonly [name: string, bytes: Uint8Array])[],
): Promise<Uint8Array> {
  const folder = await mkdtemp(path.join(os.tmpdir(), "rsbmalloc-swap-"));
  try {
    const inputs: string[] = [];
    for (const [i, [name, bytes]] of modules.entries()) {
      const file = path.join(folder, `${i}.wasm`);
      await writeFile(file, bytes);
      inputs.push(file, name);
    }
    const output = path.join(folder, "merged.wasm");
    const features = ["-mvp", ...Object.keys(FEATURES).map((name) => `--enable-${name}`)];
    await run(process.execPath, [
      wasmMerge(),
      ...inputs,
      "-o",
      output,
      "-g",
      "--skip-export-conflicts",
      ...features,
    ]);
    return new Uint8Array(await readFile(output));
  } finally {
    await rm(folder, { recursive: true });
  }
}

function wasmMerge(): string {
  const manifest = createRequire(import.meta.url).resolve("binaryen/package.json");
  return path.join(path.dirname(manifest), "bin", "wasm-merge");
}
