/** Replaces the malloc of a linked module with rsbmalloc. */
import binaryen from "binaryen";
import { SECTION, reader, unsigned, withExports, withSection } from "../binary-format.ts";
import { exportsOf, functionsOf } from "../binaryen.ts";
import { readRequirements, type Requirements } from "../requirements.ts";
import { WASM_PAGE } from "../webassembly.ts";
import { exportConstructor, removeConstructor } from "./emmalloc.ts";
import { NEEDED, isNeededName, type GivenNames, type ModuleFunction } from "./functions.ts";
import { LINKED, addCore, coreFunction, readCore, write, type GrowthSource } from "./merge.ts";
import { memorySource, readSubject, type Subject } from "./module.ts";
import { TRIED, probe, type Allocator, type Findings } from "./probe.ts";
import { accesses, callees, readsHeader, type Access } from "./text.ts";

export interface SwapReport {
  readonly allocator: Allocator;
  readonly replaced: readonly { readonly index: number; readonly name: string }[];
  /** Functions that only the old malloc used. */
  readonly removed: readonly { readonly index: number; readonly name?: string }[];
  readonly source: GrowthSource;
  /** Addresses of the new malloc's state, of the start of its heap, and of the end of the initial memory. */
  readonly state: number;
  readonly heapBase: number;
  readonly heapEnd: number;
  /** Address of errno; 0 if none was found, so that failures do not set it. */
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
 * Returns the module with its malloc replaced by rsbmalloc. `symbolMap` and `byHand` name its functions; names given by
 * hand take precedence, and must all be known ones.
 * Throws a one-line Error that states the problem and a remedy if the result could be wrong.
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

/** Returns the module without its start function, and with exports of the functions to try. */
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

/** Returns Binaryen's name for the memory. */
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

/** Space for the break of rsbmalloc's own sbrk, in bytes. */
const BREAK_SIZE = 16;

/** Places the state at the start of the old heap. Throws a one-line Error if there is no room. */
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
  // Add a page. Nothing else can be using it.
  const { max, module: imported } = module.getMemoryInfo();
  if (imported || (max !== undefined && max * WASM_PAGE < memorySize + WASM_PAGE)) {
    throw new Error("its initial memory has no room for the new malloc's state: link it with a larger one");
  }
  return placeState({ heapStart: memorySize, memorySize: memorySize + WASM_PAGE }, requirements, module);
}

/** What became of a module's functions. */
interface Outcome {
  /** Removed: only the old malloc used them. */
  readonly gone: ReadonlySet<ModuleFunction>;
  readonly left: readonly ModuleFunction[];
  /** Kept, although the old malloc used them: others use them too. */
  readonly shared: readonly ModuleFunction[];
}

/** Turns the old functions into imports, exports what the core needs, and removes what nothing refers to any more. */
function redirect(
  { module, functions, replacements, constructor, sbrk, resize }: Subject,
  source: GrowthSource,
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

/** Returns `roots` and all functions that they call or take the address of, directly or indirectly. */
function reachable(functions: readonly ModuleFunction[], roots: readonly ModuleFunction[]): ModuleFunction[] {
  const byId = new Map(functions.map((each) => [each.id, each]));
  const found = new Set(roots);
  for (const { text } of found) for (const id of callees(text)) found.add(byId.get(id)!);
  return [...found].filter(({ imported }) => !imported);
}

/**
 * Throws a one-line Error if a part of the old malloc remains in a function: code that accesses what only the functions in
 * `gone` wrote to, or that reads the header of a block.
 */
function checkRemains(
  { module, constructor, isNamedByHand }: Subject,
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
    if (found || readsHeader(text)) throw new Error(inlined(each, found, isNamedByHand));
  }
}

/** Returns the text of a function that has changed since it was read. */
function currentText(module: binaryen.Module, { id }: ModuleFunction): string {
  return binaryen.emitText(binaryen.getFunctionInfo(module.getFunction(id)).body);
}

/** Returns how messages refer to a function. */
function nameOf({ index, names: [name] }: ModuleFunction): string {
  return name ? `function ${index} (${name})` : `function ${index}`;
}

function inlined(user: ModuleFunction, found: Access | undefined, isNamedByHand: boolean): string {
  const what = found ? `uses the old malloc's data at ${found.address}` : "reads the header of a block";
  const remedies = [
    ...(hasTellingName(user)
      ? []
      : [`if the function is part of malloc, name it (--function NAME=${user.index})`]),
    ...(isNamedByHand ? ["the functions given with --function may be the wrong ones"] : []),
    "if malloc was inlined into it, link again with malloc's functions exported " +
      "(-sEXPORTED_FUNCTIONS=_main,_malloc,_free,_calloc,_realloc,_malloc_usable_size,...) or with less optimization",
  ];
  return `${nameOf(user)} ${what}, so the old malloc would stay in use there: ${remedies.join("; ")}`;
}

/** Returns whether a function has a name from its source: Emscripten shortens those of exports to one or two characters. */
function hasTellingName({ names }: ModuleFunction): boolean {
  return [...names].some((name) => name.length > 2);
}

/**
 * Throws a one-line Error if the program would still take memory from where the old malloc got it, without the new one
 * knowing: through a sbrk without a name, which has a break of its own.
 */
function checkMemory(
  { sbrk, resize }: Subject,
  source: GrowthSource,
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
  throw new Error(
    `${nameOf(taker)} takes memory from where the old malloc got it: ` +
      `if it is sbrk, name it (--function sbrk=${taker.index}); if sbrk was inlined into it, link again with sbrk exported ` +
      "(-sEXPORTED_FUNCTIONS=_main,_malloc,_free,_sbrk,...)",
  );
}

/** Removes the exports made for the merge, and checks that the module imports nothing new from its host. */
function finish(merged: Uint8Array, { compiled }: Subject, memorySize: number): Uint8Array<ArrayBuffer> {
  const exported = new Set(WebAssembly.Module.exports(compiled).map(({ name }) => name));
  const small = withExports(merged, ({ name }) => (exported.has(name) ? [name] : []));
  const bytes = withMemory(small, memorySize / WASM_PAGE);
  const key = ({ module, name }: WebAssembly.ModuleImportDescriptor) => `${module}.${name}`;
  const known = new Set(WebAssembly.Module.imports(compiled).map(key));
  const wanted = WebAssembly.Module.imports(new WebAssembly.Module(bytes)).map(key);
  const added = wanted.filter((name) => !known.has(name));
  if (added.length > 0)
    throw new Error(`the new malloc would need imports that the module does not have: ${added.join(", ")}`);
  return bytes;
}

/** Returns the module with at least `pages` pages of initial memory, unless its memory is imported. */
function withMemory(module: Uint8Array, pages: number): Uint8Array<ArrayBuffer> {
  return withSection(module, SECTION.memory, (payload) => {
    const LIMITS = 2; // The limits follow the number of memories and the flags.
    const read = reader(payload, LIMITS);
    const initial = Math.max(read.u32(), pages);
    return [payload.subarray(0, LIMITS), unsigned(initial), payload.subarray(read.position())];
  });
}
