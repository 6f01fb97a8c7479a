/** Exchanges the malloc of a finished module for rsbmalloc. */
import binaryen from "binaryen";
import { withInitialMemory } from "./binary.ts";
import { exportConstructor, findConstructor, removeConstructor, type Constructor } from "./emmalloc.ts";
import {
  findReplacements,
  isNameOf,
  named,
  readFunctions,
  signatureOf,
  type GivenNames,
  type ModuleFunction,
  type Replacement,
} from "./functions.ts";
import {
  APP,
  CORE,
  LINKED,
  emit,
  exportsOf,
  linkCore,
  merge,
  readCore,
  readModule,
  type MemorySource,
} from "./merge.ts";
import { TRIED, probe, type Findings } from "./probe.ts";
import { accesses, callees, parse, readsHeader, type Access, type Form } from "./text.ts";

export interface SwapReport {
  /** dlmalloc, emmalloc, or malloc if its functions' names do not tell. */
  readonly allocator: string;
  readonly replaced: readonly { readonly index: number; readonly name: string }[];
  /** Functions that only the old malloc used. */
  readonly removed: readonly { readonly index: number; readonly name?: string }[];
  readonly source: MemorySource;
  /** Where the new malloc's state lies, and where its heap starts. */
  readonly state: number;
  readonly heapBase: number;
  /** The address of errno; 0 if the program has none, and failures set none. */
  readonly errno: number;
  /** Sizes of the module, in bytes. */
  readonly before: number;
  readonly after: number;
}

export interface Swapped {
  readonly bytes: Uint8Array;
  readonly report: SwapReport;
}

const ALIGNMENT = 16;
/** What the state takes at most, and room for the sbrk that is brought along. */
const BREAK_SIZE = 16;
const PAGE = 65536;
const ONE_ARGUMENT = "(i32) -> i32";

/**
 * Returns the module with rsbmalloc for its malloc. `given` names functions of modules that have no names.
 * Throws an Error of one line where the result could be wrong: what is wrong with the module, and what to do.
 */
export async function swap(bytes: Uint8Array, given: GivenNames = new Map()): Promise<Swapped> {
  const compiled = compile(bytes);
  const hasNames = WebAssembly.Module.customSections(compiled, "name").length > 0;
  if (!hasNames && given.size === 0) throw new Error(NO_NAMES);
  const module = readModule(bytes);
  checkMemory(module);
  const functions = readFunctions(module, hasNames, given);
  if (functions.some(({ names }) => [...names].some((name) => /^rsbmalloc(\/|:|$)/.test(name)))) {
    throw new Error("its malloc is rsbmalloc already");
  }

  const source = memorySource(functions, module);
  const core = await readCore(source);
  const replacements = findReplacements(functions, coreSignatures(core));
  const ids = new Map(replacements.map(({ old, name }) => [old.id, name]));
  const sbrk = source === "sbrk" ? named(functions, "sbrk")! : undefined;
  const resize = source === "emscripten_resize_heap" ? named(functions, source)! : undefined;
  const errnoLocation = functions.find(
    (each) => each.names.has("__errno_location") && each.signature === "() -> i32",
  );

  const findings = probe(
    exportForTrial(bytes, hasNames, given, { replacements, sbrk, errnoLocation }),
    module,
  );
  const place = placeState(findings, stateSize(core), module);

  const constructor = findConstructor(functions);
  if (constructor) removeConstructor(module, constructor);
  const kept = redirect(module, replacements, { sbrk, resize });
  const gone = reachable(
    functions,
    replacements.map(({ old }) => old),
  ).filter(({ id }) => !kept.has(id));
  checkRemains(functions, kept, constructor, gone, [
    findings.errno,
    ...(sbrk ? [findings.breakAddress] : []),
  ]);

  const surroundings = { source, ...place, errno: findings.errno, breakAddress: findings.breakAddress };
  const linked = await linkCore(core, [...new Set(ids.values())], surroundings);
  const merged = await merge([
    [APP, emit(module, true)],
    [CORE, linked],
  ]);
  const result = finish(merged, compiled, hasNames, place.heapEnd);
  return {
    bytes: result,
    report: {
      allocator: allocatorName(functions),
      replaced: replacements.map(({ old, name }) => ({ index: old.index, name })),
      removed: gone
        .filter(({ id }) => !ids.has(id))
        .map(({ index, names: [name] }) => (name === undefined ? { index } : { index, name })),
      source,
      state: place.state,
      heapBase: place.heapBase,
      errno: findings.errno,
      before: bytes.length,
      after: result.length,
    },
  };
}

const NO_NAMES =
  "it has no names of functions: link it with names (emcc --profiling-funcs, clang --no-wasm-opt or -g), or give --symbol-map FILE (emcc --emit-symbol-map), or --function malloc=INDEX and so on";

function compile(bytes: Uint8Array): WebAssembly.Module {
  if (!MAGIC.every((byte, i) => bytes[i] === byte)) throw new Error("it is no WebAssembly file");
  if (bytes[6] !== 0)
    throw new Error("it is a component: take the core module out of it (wasm-tools component unbundle)");
  let module: WebAssembly.Module;
  try {
    module = new WebAssembly.Module(bytes as Uint8Array<ArrayBuffer>);
  } catch (error) {
    throw new Error(
      `it is no module that Node ${process.version} can run: ${error instanceof Error ? error.message : error}`,
    );
  }
  const has = (section: string) => WebAssembly.Module.customSections(module, section).length > 0;
  if (has("linking")) throw new Error("it is an object file: link it with librsbmallocc.a instead");
  if (has("dylink.0") || has("dylink")) throw new Error("it is a dynamic library, whose malloc is elsewhere");
  return module;
}

const MAGIC = [0, 0x61, 0x73, 0x6d];

function checkMemory(module: binaryen.Module): void {
  if (!module.hasMemory()) throw new Error("it has no memory, so no malloc");
  const { shared, is64 } = module.getMemoryInfo();
  if (is64) throw new Error("its memory has 64-bit addresses, which rsbmalloc is not made for");
  if (shared) throw new Error("its memory is shared among threads: link it with librsbmallocc-mt.a instead");
}

/** Emscripten's own ways first: JavaScript's views of memory depend on them. */
function memorySource(functions: readonly ModuleFunction[], module: binaryen.Module): MemorySource {
  const resize = named(functions, "emscripten_resize_heap");
  const sbrk = named(functions, "sbrk");
  for (const each of [resize, sbrk]) {
    if (each && each.signature !== ONE_ARGUMENT) {
      throw new Error(
        `function ${each.index}, ${[...each.names][0]}, takes and returns ${each.signature} and not ${ONE_ARGUMENT}`,
      );
    }
  }
  const { initial, max } = module.getMemoryInfo();
  const grows = functions.some(
    ({ info, imported }) => !imported && /\(memory\.grow\b/.test(binaryen.emitText(info.body)),
  );
  // WASI's sbrk has no break: it grows memory by whole pages.
  if (sbrk && (resize || !grows)) return "sbrk";
  if (resize) return "emscripten_resize_heap";
  if (grows || initial === max) return "memory.grow";
  throw new Error(
    "nothing says how its memory grows: --function sbrk=INDEX or --function emscripten_resize_heap=INDEX",
  );
}

function coreSignatures(core: Uint8Array): Map<string, string> {
  const module = readModule(core);
  const infos = new Map(
    Array.from({ length: module.getNumFunctions() }, (_, i) =>
      binaryen.getFunctionInfo(module.getFunctionByIndex(i)),
    ).map((info) => [info.name, info]),
  );
  const signatures = exportsOf(module).map(({ name, value }): [string, string] => [
    name,
    signatureOf(infos.get(value)!),
  ]);
  module.dispose();
  return new Map(signatures);
}

/** The core tells in a section of its own: cabi/standalone.ts writes it. */
function stateSize(core: Uint8Array): number {
  const [section] = WebAssembly.Module.customSections(
    new WebAssembly.Module(core as Uint8Array<ArrayBuffer>),
    "rsbmalloc",
  );
  return (JSON.parse(new TextDecoder().decode(section)) as { stateSize: number }).stateSize;
}

interface Tried {
  readonly replacements: readonly Replacement[];
  readonly sbrk: ModuleFunction | undefined;
  readonly errnoLocation: ModuleFunction | undefined;
}

/** The module with what is tried exported, and without a start function. */
function exportForTrial(
  bytes: Uint8Array,
  hasNames: boolean,
  given: GivenNames,
  { replacements, sbrk, errnoLocation }: Tried,
): Uint8Array<ArrayBuffer> {
  const module = readModule(bytes);
  module.addMemoryExport(memoryName(module), TRIED.memory);
  module.addFunctionExport(replacements.find(({ name }) => isNameOf(name, "malloc"))!.old.id, TRIED.malloc);
  if (sbrk) module.addFunctionExport(sbrk.id, TRIED.sbrk);
  if (errnoLocation) module.addFunctionExport(errnoLocation.id, TRIED.errno);
  const constructor = findConstructor(readFunctions(module, hasNames, given));
  if (constructor) exportConstructor(module, constructor, TRIED.constructor);
  if (module.getStart()) {
    module.setStart(module.addFunction("rsbmalloc:start", binaryen.none, binaryen.none, [], module.nop()));
  }
  return emit(module, false);
}

/** Binaryen's name for the memory. */
function memoryName(module: binaryen.Module): string {
  const exported = exportsOf(module).find(({ kind }) => kind === binaryen.ExternalMemory);
  if (exported) return exported.value;
  return /^ \((?:memory|import "[^"]*" "[^"]*" \(memory) \$(\S+)/m.exec(module.emitText())![1]!;
}

interface Place {
  readonly state: number;
  readonly ownBreak: number;
  readonly heapBase: number;
  readonly heapEnd: number;
}

/** The state takes the first bytes of what was the old malloc's heap. */
function placeState(
  { heapStart, memorySize }: Pick<Findings, "heapStart" | "memorySize">,
  size: number,
  module: binaryen.Module,
): Place {
  const align = (address: number) => Math.ceil(address / ALIGNMENT) * ALIGNMENT;
  const state = align(heapStart);
  const ownBreak = align(state + size);
  const heapBase = ownBreak + BREAK_SIZE;
  if (heapBase <= memorySize) return { state, ownBreak, heapBase, heapEnd: memorySize };
  // A page more, for which nobody else can have a use.
  const { max, module: imported } = module.getMemoryInfo();
  if (imported || (max !== undefined && max * PAGE < memorySize + PAGE)) {
    throw new Error(
      "its memory has no room for the new malloc's state at the start: link it with a larger initial memory",
    );
  }
  return placeState({ heapStart: memorySize, memorySize: memorySize + PAGE }, size, module);
}

/**
 * Makes imports of the old functions, exports what the core needs, and removes what nothing refers to any more.
 * Returns the names of the functions that are left.
 */
function redirect(
  module: binaryen.Module,
  replacements: readonly { readonly old: ModuleFunction; readonly name: string }[],
  { sbrk, resize }: { sbrk: ModuleFunction | undefined; resize: ModuleFunction | undefined },
): Set<string> {
  for (const { old, name } of replacements) {
    module.removeFunction(old.id);
    module.addFunctionImport(old.id, CORE, `${CORE}:${name}`, old.info.params, old.info.results);
  }
  module.addMemoryExport(memoryName(module), LINKED.memory);
  if (sbrk) module.addFunctionExport(sbrk.id, LINKED.sbrk);
  if (resize) module.addFunctionExport(resize.id, LINKED.resize);
  module.runPasses(["remove-unused-module-elements"]);
  const replaced = new Set(replacements.map(({ old }) => old.id));
  const left = Array.from(
    { length: module.getNumFunctions() },
    (_, i) => binaryen.getFunctionInfo(module.getFunctionByIndex(i)).name,
  );
  return new Set(left.filter((name) => !replaced.has(name)));
}

/** The functions that are called from `roots` or whose address is taken there, and so on, the roots among them. */
function reachable(functions: readonly ModuleFunction[], roots: readonly ModuleFunction[]): ModuleFunction[] {
  const byId = new Map(functions.map((each) => [each.id, each]));
  const found = new Set(roots);
  for (const each of found) {
    if (each.imported) continue;
    for (const id of callees(codeOf(each))) found.add(byId.get(id)!);
  }
  return [...found].filter(({ imported }) => !imported);
}

function codeOf({ info }: ModuleFunction): Form {
  return parse(binaryen.emitText(info.body));
}

/**
 * Throws an Error if a part of the old malloc is left in one of the functions that are: code that touches what only the
 * old malloc's functions, all of which are `gone`, wrote to, or that looks into the header of a block.
 */
function checkRemains(
  functions: readonly ModuleFunction[],
  kept: ReadonlySet<string>,
  constructor: Constructor | undefined,
  gone: readonly ModuleFunction[],
  shared: readonly number[],
): void {
  const stores = gone.flatMap((each) => accesses(codeOf(each))).filter(({ kind }) => kind === "store");
  const own = new Set(stores.map(({ address }) => address).filter((address) => !shared.includes(address)));
  for (const each of functions) {
    if (each.imported || !kept.has(each.id) || each === constructor?.owner) continue;
    const code = codeOf(each);
    const found = accesses(code).find(({ address }) => own.has(address));
    if (found || readsHeader(code)) throw new Error(inlined(each, found));
  }
}

function inlined({ index, names: [name] }: ModuleFunction, found: Access | undefined): string {
  const what = found ? `uses the old malloc's data at ${found.address}` : "reads the header of a block";
  return (
    `function ${index}${name ? `, ${name},` : ""} ${what}: a part of the old malloc is compiled into it; ` +
    "link again with its functions exported (-sEXPORTED_FUNCTIONS=_main,_malloc,_free,_calloc,_realloc,...) or optimize less"
  );
}

/** Takes away what was exported for the merge, and checks that the module asks for nothing new. */
function finish(
  merged: Uint8Array,
  original: WebAssembly.Module,
  names: boolean,
  memorySize: number,
): Uint8Array {
  const module = readModule(merged);
  const before = new Set(WebAssembly.Module.exports(original).map(({ name }) => name));
  for (const { name } of exportsOf(module)) if (!before.has(name)) module.removeExport(name);
  module.runPasses(["remove-unused-module-elements"]);
  const { initial } = module.getMemoryInfo();
  const written = emit(module, names);
  const bytes = initial * PAGE < memorySize ? withInitialMemory(written, memorySize / PAGE) : written;
  const result = new WebAssembly.Module(bytes as Uint8Array<ArrayBuffer>);
  const key = ({ module: from, name }: WebAssembly.ModuleImportDescriptor) => `${from}.${name}`;
  const known = new Set(WebAssembly.Module.imports(original).map(key));
  const added = WebAssembly.Module.imports(result)
    .map(key)
    .filter((name) => !known.has(name));
  if (added.length > 0) throw new Error(`the new malloc would need ${added.join(", ")} of its host`);
  return bytes;
}

function allocatorName(functions: readonly ModuleFunction[]): string {
  const prefixes = ["dlmalloc", "emmalloc"];
  const found = prefixes.find((prefix) =>
    functions.some(({ names }) => [...names].some((name) => name.startsWith(prefix))),
  );
  return found ?? (named(functions, "dispose_chunk") ? "dlmalloc" : "malloc");
}
