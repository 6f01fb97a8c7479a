/** Finds the functions of a module's malloc by their names. */
import binaryen from "binaryen";
import { exportsOf, functionsOf } from "../binaryen.ts";
import { forwardsTo } from "./text.ts";

/** A function of a module. */
export interface ModuleFunction {
  readonly index: number;
  /** Binaryen's name for it: from the name section, or made up. */
  readonly id: string;
  /** Its names from the name section, the exports, a symbol map and the user. */
  readonly names: Set<string>;
  readonly signature: string;
  readonly imported: boolean;
  readonly info: binaryen.FunctionInfo;
  /** Its code in WebAssembly's text format; empty if it is imported. */
  readonly text: string;
}

/** A function to replace, and the name under which the core exports its replacement. */
export interface Replacement {
  readonly old: ModuleFunction;
  readonly name: string;
}

/** Indices of functions by name, from a symbol map or the user. */
export type GivenNames = ReadonlyMap<string, number>;

/** The functions that must be found. */
export const NEEDED = ["malloc", "free"] as const;

/** What the allocators that can be replaced put before the standard names of their functions. */
const PREFIXES = ["dl", "emmalloc_", "emscripten_builtin_", "__libc_"];

/** Returns whether a name is one that some malloc has for the function `wanted`. */
export function isNeededName(name: string, wanted: (typeof NEEDED)[number]): boolean {
  return ["", ...PREFIXES].some((prefix) => name === prefix + wanted);
}

/** Returns a signature in the form `(i32, i32) -> i32`. */
export function signatureOf({ params, results }: Pick<binaryen.FunctionInfo, "params" | "results">): string {
  const types = (type: binaryen.Type) =>
    binaryen.expandType(type).map((each) => TYPE_NAMES.get(each) ?? `type ${each}`);
  return `(${types(params).join(", ")}) -> ${types(results).join(", ") || "nothing"}`;
}

const TYPE_NAMES: ReadonlyMap<binaryen.Type, string> = new Map([
  [binaryen.i32, "i32"],
  [binaryen.i64, "i64"],
  [binaryen.f32, "f32"],
  [binaryen.f64, "f64"],
  [binaryen.v128, "v128"],
]);

/**
 * Returns a module's functions by index. Names given by hand take precedence over a symbol map, and these over those that
 * the module has. Throws a one-line Error if an index is out of range.
 */
export function readFunctions(
  module: binaryen.Module,
  hasNames: boolean,
  symbolMap: GivenNames,
  byHand: GivenNames,
): ModuleFunction[] {
  const functions = functionsOf(module).map((info, index): ModuleFunction => {
    let text: string | undefined;
    return {
      index,
      id: info.name,
      names: new Set(info.module ? [info.base!] : hasNames ? [info.name] : []),
      signature: signatureOf(info),
      imported: Boolean(info.module),
      info,
      // Created on demand: the text of all functions would take many times the module's size.
      get text() {
        return (text ??= info.module ? "" : binaryen.emitText(info.body));
      },
    };
  });
  const byId = new Map(functions.map((each) => [each.id, each]));
  for (const { kind, name, value } of exportsOf(module))
    if (kind === binaryen.ExternalFunction) byId.get(value)!.names.add(name);
  addNames(functions, symbolMap);
  // A function that is named by hand has no other names.
  for (const index of byHand.values()) functions[index]?.names.clear();
  addNames(functions, byHand);
  return functions;
}

/** Adds names to functions; no other function keeps them. Throws a one-line Error if an index is out of range. */
function addNames(functions: readonly ModuleFunction[], given: GivenNames): void {
  for (const { names } of functions) for (const name of names) if (given.has(name)) names.delete(name);
  for (const [name, index] of given) {
    const each = functions[index];
    if (!each)
      throw new Error(`no function ${index} for ${name}: the module has ${functions.length} functions`);
    each.names.add(name);
  }
}

/** Further names that are used, besides those of malloc's functions. */
const HELPERS: readonly string[] = [
  "sbrk",
  "emscripten_resize_heap",
  "__errno_location",
  "initialize_emmalloc_heap",
  "claim_more_memory",
];

/** Throws a one-line Error if a name is unknown, or if a name of a malloc function is given to an import. */
export function checkNames(
  names: GivenNames,
  functions: readonly ModuleFunction[],
  signatures: ReadonlyMap<string, string>,
): void {
  for (const [name, index] of names) {
    if (!signatures.has(name) && !HELPERS.includes(name))
      throw new Error(
        `unknown function name ${name}: use malloc, free, calloc, realloc or another one from docs/swap.md`,
      );
    if (signatures.has(name) && functions[index]!.imported)
      throw new Error(`function ${index} (${name}) is an import: name a function that the module defines`);
  }
}

/** Returns the function of that name, if there is one. */
export function named(functions: readonly ModuleFunction[], name: string): ModuleFunction | undefined {
  return functions.find(({ names }) => names.has(name));
}

/**
 * Returns the functions of a module's malloc for which the core has a replacement. `signatures` are those of the core's
 * exports. Throws a one-line Error if malloc or free is not found or is imported, or if a function has another signature
 * than its replacement.
 */
export function findReplacements(
  functions: readonly ModuleFunction[],
  signatures: ReadonlyMap<string, string>,
): Replacement[] {
  const wrapped = isWrapped(functions);
  const replacements = functions.flatMap((old): Replacement[] => {
    const known = [...old.names].filter((name) => signatures.has(name));
    const inner = known.find((name) => !isPlain(name));
    const name = inner ?? (wrapped ? undefined : known[0]);
    return name === undefined || old.imported ? [] : [{ old, name }];
  });
  for (const { old, name } of replacements) {
    if (old.signature !== signatures.get(name)) {
      throw new Error(
        `function ${old.index} (${name}) has signature ${old.signature}, not ${signatures.get(name)}: ` +
          "the name is wrong, or the optimizer changed the function; then link again with it exported " +
          "(-sEXPORTED_FUNCTIONS=_malloc,_free,...) or with less optimization",
      );
    }
  }
  for (const name of NEEDED) {
    if (replacements.some((each) => isNeededName(each.name, name))) continue;
    const imported = functions.some((each) => each.imported && each.names.has(name));
    throw new Error(
      imported
        ? `its ${name} is an import: replace it in the module that defines it`
        : `no function ${name}: the optimizer may have inlined it; link again with it exported ` +
            `(-sEXPORTED_FUNCTIONS=_main,_malloc,_free,...), or give its index with --function ${name}=INDEX`,
    );
  }
  return replacements;
}

/** Returns whether a program could have given the name to a function of its own. */
function isPlain(name: string): boolean {
  return ![...PREFIXES, "internal_"].some((prefix) => name.startsWith(prefix));
}

/** Returns whether the program defines its own malloc on top of the library's. If so, plain names are the program's. */
function isWrapped(functions: readonly ModuleFunction[]): boolean {
  const outer = named(functions, "malloc");
  const inner = PREFIXES.map((prefix) => named(functions, `${prefix}malloc`)).find(
    (each) => each !== undefined,
  );
  if (!outer || !inner || outer === inner || outer.imported) return false;
  return !forwardsTo(outer.text, inner.id);
}
