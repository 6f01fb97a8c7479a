/** Exchanges the malloc of a finished module for rsbmalloc. */
import binaryen from "binaryen";
import { SECTION, reader, unsigned, withExports, withSection } from "../binary-format.ts";
import { exportsOf, functionsOf } from "../binaryen.ts";
import { readRequirements, type Requirements } from "../requirements.ts";
import { WASM_PAGE } from "../webassembly.ts";
import { exportConstructor, removeConstructor } from "./emmalloc.ts";
import { NEEDED, isNeededName, type GivenNames, type ModuleFunction } from "./functions.ts";
import { LINKED, addCore, coreFunction, readCore, write, type MemorySource } from "./merge.ts";
import { memorySource, readSubject, type Subject } from "./module.ts";
import { TRIED, probe, type Allocator, type Findings } from "./probe.ts";
import { accesses, callees, readsHeader, type Access } from "./text.ts";

export interface SwapReport {
  readonly allocator: Allocator;
  readonly replaced: readonly { readonly index: number; readonly name: string }[];
  /** Functions that only the old malloc used. */
  readonly removed: readonly { readonly index: number; readonly name?: string }[];
  readonly source: MemorySource;
  /** Where the new malloc's state lies, where its heap starts, and up to where it has memory from the start. */
  readonly state: number;
  readonly heapBase: number;
  readonly heapEnd: number;
  /** The address of errno; 0 if the program has none, and failures set none. */
  readonly errno: number;
  /** Sizes of the module, in bytes. */
  readonly before: number;
  readonly after: number;
}

export interface Swapped {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly report: SwapReport;
}

/**
 * Returns the module with rsbmalloc for its malloc. `symbolMap` and `byHand` name its functions; what is said by hand goes
 * first, and is all of use.
 * Throws an Error of one line where the result could be wrong: what is wrong with the module, and what to do.
 */
export async function swap(
  bytes: Uint8Array<ArrayBuffer>,
  symbolMap: GivenNames = new Map(),
  byHand: GivenNames = new Map(),
): Promise<Swapped> {
  const subject = await readSubject(bytes, symbolMap, byHand);
  const { module, replacements } = subject;
  const findings = probe(forTrial(subject), module, subject.hasNames);
  const { allocator, errno, breakAddress } = findings;
  const source = memorySource(subject, breakAddress !== 0);
  const core = await readCore(source);
  const place = placeState(findings, readRequirements(new WebAssembly.Module(core)), module);

  const { gone, left, shared } = redirect(subject, source);
  checkRemains(subject, gone, left, findings);
  checkMemory(subject, source, left, shared, findings);

  const app = write(module, true);
  module.dispose();
  const names = [...new Set(replacements.map(({ name }) => name))];
  const surroundings = { source, ...place, errno, breakAddress };
  const merged = await addCore(app, core, names, surroundings, subject.hasNames);
  const result = finish(merged, subject, place.heapEnd);

  const old = new Set(replacements.map((each) => each.old));
  const removed = [...gone].filter((each) => !old.has(each));
  return {
    bytes: result,
    report: {
      allocator,
      replaced: replacements.map((each) => ({ index: each.old.index, name: each.name })),
      removed: removed.map(({ index, names: [name] }) => (name === undefined ? { index } : { index, name })),
      source,
      state: place.state,
      heapBase: place.heapBase,
      heapEnd: place.heapEnd,
      errno,
      before: bytes.length,
      after: result.length,
    },
  };
}

/** The module with what is tried exported, and without a start function. */
function forTrial({
  module,
  replacements,
  sbrk,
  errnoLocation,
  constructor,
}: Subject): Uint8Array<ArrayBuffer> {
  const start = module.getStart();
  const NO_START = "rsbmalloc:start";
  if (start) module.setStart(module.addFunction(NO_START, binaryen.none, binaryen.none, [], module.nop()));
  module.addMemoryExport(memoryName(module), TRIED.memory);
  for (const needed of NEEDED)
    module.addFunctionExport(
      replacements.find(({ name }) => isNeededName(name, needed))!.old.id,
      TRIED[needed],
    );
  if (sbrk) module.addFunctionExport(sbrk.id, TRIED.sbrk);
  if (errnoLocation) module.addFunctionExport(errnoLocation.id, TRIED.errno);
  if (constructor) exportConstructor(module, constructor, TRIED.constructor);

  const bytes = write(module, false);

  if (start) {
    module.setStart(start);
    module.removeFunction(NO_START);
  }
  for (const name of Object.values(TRIED)) module.removeExport(name);
  if (constructor) module.removeFunction(TRIED.constructor);
  return bytes;
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

/** Room for the break of the sbrk that is brought along. */
const BREAK_SIZE = 16;

/** The state takes the first bytes of what was the old malloc's memory. */
function placeState(
  { heapStart, memorySize }: Pick<Findings, "heapStart" | "memorySize">,
  requirements: Requirements,
  module: binaryen.Module,
): Place {
  const { stateSize, stateAlignment } = requirements;
  const align = (address: number) => Math.ceil(address / stateAlignment) * stateAlignment;
  const state = align(heapStart);
  const ownBreak = align(state + stateSize);
  const heapBase = ownBreak + BREAK_SIZE;
  if (heapBase <= memorySize) return { state, ownBreak, heapBase, heapEnd: memorySize };
  // A page more, for which nobody else can have a use.
  const { max, module: imported } = module.getMemoryInfo();
  if (imported || (max !== undefined && max * WASM_PAGE < memorySize + WASM_PAGE)) {
    throw new Error(
      "its memory has no room for the new malloc's state at the start: link it with a larger initial memory",
    );
  }
  return placeState({ heapStart: memorySize, memorySize: memorySize + WASM_PAGE }, requirements, module);
}

/** What became of the functions of a module. */
interface Outcome {
  /** The old malloc used them, and they are no longer there. */
  readonly gone: ReadonlySet<ModuleFunction>;
  readonly left: readonly ModuleFunction[];
  /** The old malloc used them, and others do, so that they are left. */
  readonly shared: readonly ModuleFunction[];
}

/** Makes imports of the old functions, exports what the core needs, and removes what nothing refers to any more. */
function redirect(
  { module, functions, replacements, constructor, sbrk, resize }: Subject,
  source: MemorySource,
): Outcome {
  const roots = [...replacements.map(({ old }) => old), ...(constructor?.whole ? [constructor.whole] : [])];
  if (constructor) removeConstructor(module, constructor);
  for (const { old, name } of replacements) {
    module.removeFunction(old.id);
    module.addFunctionImport(old.id, ...coreFunction(name), old.info.params, old.info.results);
  }
  module.addMemoryExport(memoryName(module), LINKED.memory);
  if (source === "sbrk") module.addFunctionExport(sbrk!.id, LINKED.sbrk);
  if (source === "emscripten_resize_heap")
    module.addFunctionExport(resize!.id, LINKED.emscripten_resize_heap);
  module.runPasses(["remove-unused-module-elements"]);
  const left = new Set(functionsOf(module).flatMap(({ name, base }) => (base ? [] : [name])));
  const isLeft = ({ id }: ModuleFunction) => left.has(id);
  const used = reachable(functions, roots);
  return {
    gone: new Set(used.filter((each) => !isLeft(each))),
    left: functions.filter(isLeft),
    shared: used.filter(isLeft),
  };
}

/** The functions that are called from `roots` or whose address is taken there, and so on, the roots among them. */
function reachable(functions: readonly ModuleFunction[], roots: readonly ModuleFunction[]): ModuleFunction[] {
  const byId = new Map(functions.map((each) => [each.id, each]));
  const found = new Set(roots);
  for (const { text } of found) for (const id of callees(text)) found.add(byId.get(id)!);
  return [...found].filter(({ imported }) => !imported);
}

/**
 * Throws an Error if a part of the old malloc is left in a function: code that touches what only the functions that are
 * `gone` wrote to, or that looks into the header of a block.
 */
function checkRemains(
  { module, constructor }: Subject,
  gone: ReadonlySet<ModuleFunction>,
  left: readonly ModuleFunction[],
  { errno, breakAddress }: Findings,
): void {
  const stores = [...gone].flatMap(({ text }) => accesses(text)).filter(({ kind }) => kind === "store");
  const own = new Set(stores.map(({ address }) => address));
  own.delete(errno);
  own.delete(breakAddress);
  for (const each of left) {
    const text = each === constructor?.owner ? currentText(module, each) : each.text;
    const found = accesses(text).find(({ address }) => own.has(address));
    if (found || readsHeader(text)) throw new Error(inlined(each, found));
  }
}

/** The code of a function that was changed. */
function currentText(module: binaryen.Module, { id }: ModuleFunction): string {
  return binaryen.emitText(binaryen.getFunctionInfo(module.getFunction(id)).body);
}

function inlined({ index, names: [name] }: ModuleFunction, found: Access | undefined): string {
  const what = found ? `uses the old malloc's data at ${found.address}` : "reads the header of a block";
  return (
    `function ${index}${name ? `, ${name},` : ""} ${what}, so the old malloc would stay in use there: ` +
    `if the function is a part of malloc, name it (--function calloc=${index}); if malloc was compiled into it, link again ` +
    "with malloc's functions exported (-sEXPORTED_FUNCTIONS=_main,_malloc,_free,_calloc,_realloc,_malloc_usable_size,...) " +
    "or optimize less"
  );
}

/**
 * Throws an Error if the program goes on to take memory where the old malloc had it, and the new one would not know: by
 * a sbrk that nothing names, which keeps a break of its own.
 */
function checkMemory(
  { sbrk, resize }: Subject,
  source: MemorySource,
  left: readonly ModuleFunction[],
  shared: readonly ModuleFunction[],
  { errno }: Findings,
): void {
  if (source === "sbrk") return;
  const taker =
    source === "emscripten_resize_heap"
      ? left.find((each) => each !== resize && callees(each.text).includes(resize!.id))
      : shared.find((each) => each !== sbrk && accesses(each.text).some(({ address }) => address !== errno));
  if (!taker) return;
  const { index, names } = taker;
  const [name] = names;
  throw new Error(
    `function ${index}${name ? `, ${name},` : ""} takes memory from where the old malloc had it: ` +
      `if it is sbrk, name it (--function sbrk=${index}); if sbrk was compiled into it, link again with sbrk exported ` +
      "(-sEXPORTED_FUNCTIONS=_main,_malloc,_free,_sbrk,...)",
  );
}

/** Takes away what was exported for the merge, and checks that the module asks its host for nothing new. */
function finish(merged: Uint8Array, { compiled }: Subject, memorySize: number): Uint8Array<ArrayBuffer> {
  const exported = new Set(WebAssembly.Module.exports(compiled).map(({ name }) => name));
  const small = withExports(merged, ({ name }) => (exported.has(name) ? [name] : []));
  const bytes = withMemory(small, memorySize / WASM_PAGE);
  const key = ({ module, name }: WebAssembly.ModuleImportDescriptor) => `${module}.${name}`;
  const known = new Set(WebAssembly.Module.imports(compiled).map(key));
  const wanted = WebAssembly.Module.imports(new WebAssembly.Module(bytes)).map(key);
  const added = wanted.filter((name) => !known.has(name));
  if (added.length > 0) throw new Error(`the new malloc would need ${added.join(", ")} of its host`);
  return bytes;
}

/** The module with so many pages of memory from the start, if the memory is its own and has fewer. */
function withMemory(module: Uint8Array, pages: number): Uint8Array<ArrayBuffer> {
  return withSection(module, SECTION.memory, (payload) => {
    const LIMITS = 2; // after the number of memories and the flags
    const read = reader(payload, LIMITS);
    const initial = Math.max(read.u32(), pages);
    return [payload.subarray(0, LIMITS), unsigned(initial), payload.subarray(read.position())];
  });
}
