/**
 * emmalloc, in many releases, sets up its heap in a constructor, before the first call to malloc. The constructor must be
 * removed, or the old heap would stay in use; and the trial of the old malloc (probe.ts) must call it first.
 */
import binaryen from "binaryen";
import { named, type ModuleFunction } from "./functions.ts";
import { children, parse, type Form } from "./text.ts";

/** The constructor, as statements of a function: a call to it, or its inlined code. */
export interface Constructor {
  readonly owner: ModuleFunction;
  readonly first: number;
  readonly count: number;
  /** The function that is called; undefined if it was inlined. */
  readonly whole?: ModuleFunction;
}

export function findConstructor(functions: readonly ModuleFunction[]): Constructor | undefined {
  const whole = named(functions, "initialize_emmalloc_heap");
  const claim = named(functions, "claim_more_memory");
  if (!whole && !claim) return undefined;
  for (const owner of functions) {
    // Parsing is slow: skip functions that cannot contain the constructor.
    if (owner.imported || owner === whole || !/^\((?:block|call)\b/.test(owner.text)) continue;
    const texts = statements(owner).map((statement) => binaryen.emitText(statement).trim());
    const call = whole ? texts.indexOf(`(call $${whole.id})`) : -1;
    if (whole && call >= 0) return { owner, first: call, count: 1, whole };
    const loop = texts.findIndex((statement, i) => {
      return claim && linksBuckets(statement) && claimsFirstMemory(parse(texts[i + 1] ?? "(nop)"), claim.id);
    });
    // Two statements: the loop over the buckets, and the call that claims the first memory.
    if (loop >= 0) return { owner, first: loop, count: 2 };
  }
  return undefined;
}

function statements({ info }: ModuleFunction): number[] {
  const body = binaryen.getExpressionInfo(info.body);
  return body.id === binaryen.BlockId ? (body as binaryen.BlockInfo).children : [info.body];
}

/** Removes the constructor's statements from the function that contains them. */
export function removeConstructor(module: binaryen.Module, { owner, first, count }: Constructor): void {
  const { id, info } = owner;
  const rest = statements(owner).filter((_, i) => i < first || i >= first + count);
  module.removeFunction(id);
  module.addFunction(id, info.params, info.results, info.vars, module.block(null, rest, info.results));
}

/** Adds and exports a function that does what the constructor does. */
export function exportConstructor(
  module: binaryen.Module,
  { owner, first, count }: Constructor,
  name: string,
): void {
  const copies = statements(owner)
    .slice(first, first + count)
    .map((statement) => module.copyExpression(statement));
  const { params, vars } = owner.info;
  const locals = [...binaryen.expandType(params), ...vars];
  module.addFunction(name, binaryen.none, binaryen.none, locals, module.block(null, copies));
  module.addFunctionExport(name, name);
}

/** Returns whether the statement is `(drop (call $claim_more_memory (i32.const 48)))`, with any constant. */
function claimsFirstMemory(statement: Form, claim: string): boolean {
  const [call] = children(statement);
  if (statement[0] !== "drop" || call?.[0] !== "call" || call[1] !== `$${claim}`) return false;
  return children(call)[0]?.[0] === "i32.const";
}

/** Returns whether the statement is the loop that makes a ring of each bucket: arithmetic and stores only. */
function linksBuckets(statement: string): boolean {
  const others = /\((?:call|call_indirect|return|global\.set|[if]\d+\.load\w*)\b/;
  return statement.startsWith("(loop") && statement.includes("(i32.store") && !others.test(statement);
}
