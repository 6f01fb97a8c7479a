/**
 * Rewrites a program so that its allocation functions, of whatever allocator, report every call to the host:
 *
 *     malloc(size) { enter(); result = <what malloc was>(size); leave(number of malloc in TRACED, result, size, 0, 0); return result; }
 *
 * The functions are found by their names in the program's `name` section, and by those of its exports.
 */
import binaryen from "binaryen";
import {
  EXTERN,
  FUNCTION_NAMES,
  NAME_SECTION,
  SECTION,
  customSection,
  flatten,
  payloadOf,
  reader,
  readImports,
  readSections,
  section,
  text,
  unsigned,
  vector,
} from "../binary-format.ts";
import { exportsOf, functionsOf, readModule } from "../binaryen.ts";
import { LINK_WITH_NAMES } from "./names.ts";
import { TRACED, TRACE_MODULE, isTracedName } from "./traced.ts";

const MOST_PARAMETERS = 3;

/** Names for the imported functions that no function of a program has. */
const ENTER = `${TRACE_MODULE}.enter`;
const LEAVE = `${TRACE_MODULE}.leave`;

/**
 * Returns the rewritten program. Throws a one-line Error if Binaryen cannot read it, or if no function has the name of an
 * allocation function.
 */
export function traceModule(program: BufferSource): Uint8Array {
  const bytes = ArrayBuffer.isView(program)
    ? new Uint8Array(program.buffer, program.byteOffset, program.byteLength)
    : new Uint8Array(program);
  const advice = "its names are damaged, or it uses newer WebAssembly features; link it again";
  const module = readModule(withNames(bytes), binaryen.Features.All, advice);
  try {
    const { i32, none } = binaryen;
    module.addFunctionImport(ENTER, TRACE_MODULE, "enter", none, none);
    const leaveParameters = Array<binaryen.Type>(2 + MOST_PARAMETERS).fill(i32);
    module.addFunctionImport(LEAVE, TRACE_MODULE, "leave", binaryen.createType(leaveParameters), none);
    const functions = allocationFunctions(module);
    if (functions.size === 0) throw new Error(`no function named malloc: ${LINK_WITH_NAMES}`);
    for (const [info, traced] of functions) wrap(module, info, traced);
    binaryen.setDebugInfo(true);
    return module.emitBinary();
  } finally {
    module.dispose();
  }
}

/** Returns a program without names with each function's index as its name: in the rewritten program they have others. */
function withNames(program: Uint8Array): Uint8Array {
  const sections = readSections(program);
  if (sections.some(({ id, name }) => id === SECTION.custom && name === NAME_SECTION)) return program;
  const imports = readImports(payloadOf(sections, SECTION.import));
  const imported = imports.filter(({ kind }) => kind === EXTERN.function).length;
  const count = imported + reader(payloadOf(sections, SECTION.function)).u32();
  const names = Array.from({ length: count }, (_, index) => [unsigned(index), text(`${index}`)]);
  return flatten([program, customSection(NAME_SECTION, section(FUNCTION_NAMES, vector(names)))]);
}

/** Returns the allocation functions of the program, each with its number in TRACED. */
function allocationFunctions(module: binaryen.Module): Map<binaryen.FunctionInfo, number> {
  const all = new Map(functionsOf(module).map((info) => [info.name, info]));
  const found = new Map<binaryen.FunctionInfo, number>();
  const add = (info: binaryen.FunctionInfo | undefined, traced: number): void => {
    if (info && !info.module && isAllocation(info) && !found.has(info)) found.set(info, traced);
  };
  const numberOf = (name: string): number => TRACED.findIndex((traced) => isTracedName(name, traced));
  for (const info of all.values()) if (numberOf(info.name) >= 0) add(info, numberOf(info.name));
  for (const { kind, name, value } of exportsOf(module)) {
    const info = all.get(value);
    if (kind !== binaryen.ExternalFunction || numberOf(name) < 0 || !info || info.module) continue;
    add(info, numberOf(name));
    add(forwardedTo(info, all), numberOf(name));
  }
  return found;
}

/**
 * Returns the function that an exported one stands for, if any: what a linker exports from a program may be a function
 * that calls the real one, which the program itself calls, and constructors before and destructors after that.
 */
function forwardedTo(
  { body, params, results }: binaryen.FunctionInfo,
  all: ReadonlyMap<string, binaryen.FunctionInfo>,
): binaryen.FunctionInfo | undefined {
  const code = binaryen.emitText(body);
  if (/\((?!(?:call|block|result|return|local\.\w+)\b)/.test(code)) return undefined;
  const same = [...code.matchAll(/\(call \$([^\s()]+)/g)]
    .map(([, name]) => all.get(name!))
    .filter((info) => info?.params === params && info.results === results);
  return same.length === 1 ? same[0] : undefined;
}

/** Returns whether a function with such a name can be the C library's, judging by its parameters and result. */
function isAllocation({ params, results }: binaryen.FunctionInfo): boolean {
  const types = binaryen.expandType(params);
  return (
    types.length >= 1 &&
    types.length <= MOST_PARAMETERS &&
    types.every((type) => type === binaryen.i32) &&
    (results === binaryen.i32 || results === binaryen.none)
  );
}

function wrap(module: binaryen.Module, info: binaryen.FunctionInfo, traced: number): void {
  const { i32, none } = binaryen;
  const { name, params, results, vars, body } = info;
  const inner = `${name} (traced)`;
  const parameters = binaryen.expandType(params).map((type, index) => () => module.local.get(index, type));
  const call = module.call(
    inner,
    parameters.map((get) => get()),
    results,
  );
  const result = parameters.length;
  const values = Array.from(
    { length: MOST_PARAMETERS },
    (_, index) => parameters[index]?.() ?? module.i32.const(0),
  );
  const leave = (returned: binaryen.ExpressionRef): binaryen.ExpressionRef =>
    module.call(LEAVE, [module.i32.const(traced), returned, ...values], none);
  const outer =
    results === i32
      ? [module.local.set(result, call), leave(module.local.get(result, i32)), module.local.get(result, i32)]
      : [call, leave(module.i32.const(0))];

  module.removeFunction(name);
  module.addFunction(inner, params, results, vars, body);
  module.addFunction(
    name,
    params,
    results,
    [i32],
    module.block(null, [module.call(ENTER, [], none), ...outer], results),
  );
}
