/**
 * emmalloc, in many releases, starts its heap in a constructor before any call of malloc. Without that constructor
 * nothing refers to the old heap; and without it the old malloc does not work when it is tried.
 */
import binaryen from "binaryen";
import { named, type ModuleFunction } from "./functions.ts";
import { children, parse, type Form } from "./text.ts";

/** A function of its own, or two statements at `at` of the one that it was compiled into. */
export interface Constructor {
  readonly owner: ModuleFunction;
  readonly at?: number;
}

/** How many statements make up the constructor: one for the buckets, one for the first memory. */
const STATEMENTS = 2;

export function findConstructor(functions: readonly ModuleFunction[]): Constructor | undefined {
  const owner = named(functions, "initialize_emmalloc_heap");
  if (owner && !owner.imported) return { owner };
  const claim = named(functions, "claim_more_memory");
  if (!claim) return undefined;
  for (const each of functions) {
    if (each.imported || !binaryen.emitText(each.info.body).startsWith("(block")) continue;
    const texts = statements(each).map((statement) => binaryen.emitText(statement));
    const at = texts.findIndex((statement, i) => {
      return linksBuckets(statement) && claimsFirstMemory(parse(texts[i + 1] ?? "(nop)"), claim.id);
    });
    if (at >= 0) return { owner: each, at };
  }
  return undefined;
}

function statements({ info }: ModuleFunction): number[] {
  return (binaryen.getExpressionInfo(info.body) as binaryen.BlockInfo).children;
}

export function removeConstructor(module: binaryen.Module, { owner, at }: Constructor): void {
  const { id, info } = owner;
  const rest = at === undefined ? [] : statements(owner).filter((_, i) => i < at || i >= at + STATEMENTS);
  module.removeFunction(id);
  module.addFunction(id, info.params, info.results, info.vars, module.block(null, rest, info.results));
}

/** Adds an export that is the constructor alone. */
export function exportConstructor(module: binaryen.Module, { owner, at }: Constructor, name: string): void {
  if (at === undefined) {
    module.addFunctionExport(owner.id, name);
    return;
  }
  const { params, vars } = owner.info;
  const copies = statements(owner)
    .slice(at, at + STATEMENTS)
    .map((statement) => module.copyExpression(statement));
  module.addFunction(
    name,
    binaryen.none,
    binaryen.none,
    [...binaryen.expandType(params), ...vars],
    module.block(null, copies),
  );
  module.addFunctionExport(name, name);
}

/** `(drop (call $claim_more_memory (i32.const 48)))` */
function claimsFirstMemory(statement: Form, claim: string): boolean {
  const [call] = children(statement);
  if (statement[0] !== "drop" || call?.[0] !== "call" || call[1] !== `$${claim}`) return false;
  return children(call)[0]?.[0] === "i32.const";
}

/** The loop that makes a ring of each bucket: nothing but arithmetic and stores. */
function linksBuckets(statement: string): boolean {
  const others = /\((?:call|call_indirect|return|global\.set|[if]\d+\.load\w*)\b/;
  return statement.startsWith("(loop") && statement.includes("(i32.store") && !others.test(statement);
}
