/** Reads a module and finds its malloc, its sources of memory and its errno. */
import binaryen from "binaryen";
import { exportsOf, functionsOf } from "../binaryen.ts";
import { compileProgram } from "../compile.ts";
import { findConstructor, type Constructor } from "./emmalloc.ts";
import {
  checkNames,
  findReplacements,
  isNeededName,
  named,
  readFunctions,
  signatureOf,
  type GivenNames,
  type ModuleFunction,
  type Replacement,
} from "./functions.ts";
import { parseModule, readCore, type GrowthSource } from "./merge.ts";

export interface Subject {
  readonly compiled: WebAssembly.Module;
  readonly module: binaryen.Module;
  readonly functions: readonly ModuleFunction[];
  readonly hasNames: boolean;
  /** Whether the user named functions by their indices. */
  readonly isNamedByHand: boolean;
  readonly replacements: readonly Replacement[];
  readonly constructor: Constructor | undefined;
  readonly sbrk: ModuleFunction | undefined;
  readonly resize: ModuleFunction | undefined;
  readonly errnoLocation: ModuleFunction | undefined;
}

/** Throws a one-line Error if the module has no malloc that can be replaced. */
export async function readSubject(
  bytes: Uint8Array<ArrayBuffer>,
  symbolMap: GivenNames,
  byHand: GivenNames,
): Promise<Subject> {
  const compiled = compileProgram(bytes);
  const hasNames = WebAssembly.Module.customSections(compiled, "name").length > 0;
  const module = parseModule(bytes);
  checkMemory(module);
  const functions = readFunctions(module, hasNames, symbolMap, byHand);
  const namesMalloc = ({ names }: ModuleFunction) => [...names].some((name) => isNeededName(name, "malloc"));
  if (!hasNames && symbolMap.size === 0 && !functions.some(namesMalloc)) throw new Error(NO_NAMES);
  if (functions.some(({ names }) => [...names].some((name) => /^rsbmalloc(\/|$)/.test(name)))) {
    throw new Error("its malloc is already rsbmalloc");
  }
  const signatures = await coreSignatures();
  checkNames(byHand, functions, signatures);
  return {
    compiled,
    module,
    functions,
    hasNames,
    isNamedByHand: byHand.size > 0,
    replacements: findReplacements(functions, signatures),
    constructor: findConstructor(functions),
    sbrk: grower(functions, "sbrk"),
    resize: grower(functions, "emscripten_resize_heap"),
    errnoLocation: functions.find(
      ({ names, signature }) => names.has("__errno_location") && signature === "() -> i32",
    ),
  };
}

const NO_NAMES =
  "no function names: link it with names (emcc --profiling-funcs, clang --no-wasm-opt), or give --symbol-map FILE (emcc --emit-symbol-map) or --function malloc=INDEX, --function free=INDEX, ...";

function checkMemory(module: binaryen.Module): void {
  if (!module.hasMemory()) throw new Error("the module has no memory, so there is no malloc to replace");
  if (module.getMemoryInfo().shared)
    throw new Error("its memory is shared among threads: link it with librsbmallocc-mt.a instead");
}

const GROWER_SIGNATURE = "(i32) -> i32";

function grower(functions: readonly ModuleFunction[], name: string): ModuleFunction | undefined {
  const found = named(functions, name);
  if (!found || found.signature === GROWER_SIGNATURE) return found;
  throw new Error(
    `function ${found.index} (${name}) has signature ${found.signature}, not ${GROWER_SIGNATURE}: ` +
      `name the right one with --function ${name}=INDEX`,
  );
}

/**
 * Chooses the core's source of memory. Emscripten's own come first, because JavaScript's views of memory depend on them.
 * `keepsBreak` says whether the module has a sbrk that moves a break, so that others may call it too. Throws a one-line
 * Error if there is no safe choice.
 */
export function memorySource(
  { module, functions, sbrk, resize }: Subject,
  keepsBreak: boolean,
): GrowthSource {
  if (keepsBreak) return "sbrk";
  if (resize && sbrk)
    throw new Error(
      "its sbrk does not move a break: name Emscripten's sbrk with --function sbrk=INDEX, or leave sbrk unnamed",
    );
  if (resize) return "emscripten_resize_heap";
  if (functions.some(({ text }) => text.includes("(memory.grow"))) return "memory.grow";
  const { initial, max } = module.getMemoryInfo();
  if (initial === max) return "memory.grow";
  throw new Error(
    "it is unknown how its memory grows: give --function sbrk=INDEX or --function emscripten_resize_heap=INDEX",
  );
}

/** Returns the signatures of the core's exports, which are the same in both cores. */
async function coreSignatures(): Promise<Map<string, string>> {
  const module = parseModule(await readCore("memory.grow"));
  const infos = new Map(functionsOf(module).map((info) => [info.name, info]));
  const signatures = exportsOf(module).map(
    ({ name, value }) => [name, signatureOf(infos.get(value)!)] as const,
  );
  module.dispose();
  return new Map(signatures);
}
