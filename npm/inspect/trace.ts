/**
 * Rewrites a program so that its allocation functions, of whatever allocator, report every call to the host:
 *
 *     malloc(size) { enter(); result = <what malloc was>(size); leave(number of malloc in TRACED, result, size, 0, 0); return result; }
 *
 * The functions are found by their names in the program's `name` section.
 */
import binaryen from "binaryen";
import { functionsOf } from "../binaryen.ts";
import { reasonOf } from "../errors.ts";
import { TRACED, TRACE_MODULE, isTracedName } from "./traced.ts";

const MOST_PARAMETERS = 3;

/**
 * Returns the rewritten program. Throws a one-line Error if Binaryen cannot read it, or if no function has the name of an
 * allocation function.
 */
export function traceModule(program: BufferSource): Uint8Array {
  const bytes = ArrayBuffer.isView(program)
    ? new Uint8Array(program.buffer, program.byteOffset, program.byteLength)
    : new Uint8Array(program);
  const module = readModule(bytes);
  try {
    const { i32, none } = binaryen;
    module.addFunctionImport("enter", TRACE_MODULE, "enter", none, none);
    const leaveParameters = Array<binaryen.Type>(2 + MOST_PARAMETERS).fill(i32);
    module.addFunctionImport("leave", TRACE_MODULE, "leave", binaryen.createType(leaveParameters), none);
    const wrapped = functionsOf(module).flatMap((info) => {
      const traced = TRACED.findIndex((name) => isTracedName(info.name, name));
      return traced >= 0 && !info.module && isAllocation(info) ? [wrap(module, info, traced)] : [];
    });
    if (wrapped.length === 0)
      throw new Error(
        "no function named malloc: link with names (clang: --no-wasm-opt and no -s; emcc: --profiling-funcs)",
      );
    binaryen.setDebugInfo(true);
    return module.emitBinary();
  } finally {
    module.dispose();
  }
}

function readModule(bytes: Uint8Array): binaryen.Module {
  const { write } = process.stderr;
  // Binaryen warns about parts of the `name` section that it does not know, which do no harm.
  process.stderr.write = () => true;
  try {
    return binaryen.readBinaryWithFeatures(bytes, binaryen.Features.All);
  } catch (error) {
    throw new Error(
      `Binaryen cannot read it (${reasonOf(error)}): its names are damaged, or it uses newer WebAssembly features; link it again`,
      { cause: error },
    );
  } finally {
    process.stderr.write = write;
  }
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

function wrap(module: binaryen.Module, info: binaryen.FunctionInfo, traced: number): string {
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
    module.call("leave", [module.i32.const(traced), returned, ...values], none);
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
    module.block(null, [module.call("enter", [], none), ...outer], results),
  );
  return name;
}
