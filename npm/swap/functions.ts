/** Which function of a module is which function of its malloc. */
import binaryen from "binaryen";
import { exportsOf, functionsOf } from "../binaryen.ts";
import { forwardsTo } from "./text.ts";

/** A function of a module. */
export interface ModuleFunction {
  readonly index: number;
  /** As Binaryen calls it: the name section's name, or a made-up one. */
  readonly id: string;
  /** By the name section, the exports, a symbol map or the user. */
  readonly names: Set<string>;
  readonly signature: string;
  readonly imported: boolean;
  readonly info: binaryen.FunctionInfo;
  /** Its code in the text format; empty if it is imported. */
  readonly text: string;
}

/** A function that is to be replaced, and the name that the core exports its replacement by. */
export interface Replacement {
  readonly old: ModuleFunction;
  readonly name: string;
}

/** What a symbol map or the user says of a module's functions: name to index. */
export type GivenNames = ReadonlyMap<string, number>;

/** The functions without which there is nothing to exchange. */
export const NEEDED = ["malloc", "free"] as const;

/** Whether a function of that name is the wanted one of some malloc. */
export function isNeededName(name: string, wanted: (typeof NEEDED)[number]): boolean {
  return new RegExp(`^(dl|emmalloc_|emscripten_builtin_|__libc_)?${wanted}$`).test(name);
}

/** `(i32, i32) -> i32` */
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

/** The functions in the order of their indices. Throws an Error of one line for an index that there is not. */
export function readFunctions(
  module: binaryen.Module,
  hasNames: boolean,
  given: GivenNames,
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
      // Made when it is asked for: all of it is many times the module's size.
      get text() {
        return (text ??= info.module ? "" : binaryen.emitText(info.body));
      },
    };
  });
  const byId = new Map(functions.map((each) => [each.id, each]));
  for (const { kind, name, value } of exportsOf(module))
    if (kind === binaryen.ExternalFunction) byId.get(value)!.names.add(name);
  // What is said of a function by hand holds, whatever the module says of others.
  for (const { names } of functions) for (const name of names) if (given.has(name)) names.delete(name);
  for (const [name, index] of given) {
    const each = functions[index];
    if (!each)
      throw new Error(`there is no function ${index} for ${name}: the module has ${functions.length}`);
    each.names.add(name);
  }
  return functions;
}

/** Names that help besides those of malloc's functions. */
const HELPERS: readonly string[] = [
  "sbrk",
  "emscripten_resize_heap",
  "__errno_location",
  "initialize_emmalloc_heap",
  "claim_more_memory",
];

/** Throws an Error of one line if one of the names tells nothing, or names an import for a function of malloc's. */
export function checkNames(
  names: GivenNames,
  functions: readonly ModuleFunction[],
  signatures: ReadonlyMap<string, string>,
): void {
  for (const [name, index] of names) {
    if (!signatures.has(name) && !HELPERS.includes(name))
      throw new Error(
        `no function of malloc's is named ${name}; there are malloc, free, calloc, realloc and more: see docs/swap.md`,
      );
    if (signatures.has(name) && functions[index]!.imported)
      throw new Error(`function ${index}, ${name}, is imported from elsewhere: name one of the module's own`);
  }
}

/** The function of that name; undefined if there is none. */
export function named(functions: readonly ModuleFunction[], name: string): ModuleFunction | undefined {
  return functions.find(({ names }) => names.has(name));
}

/**
 * The functions of a module's malloc that the core has a counterpart of. `signatures` are those of the core's exports.
 * Throws an Error of one line if the module has no malloc of its own that can be found, or one that is not as it should be.
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
        `function ${old.index}, ${name}, takes and returns ${old.signature} and not ${signatures.get(name)}: ` +
          "it was changed when the program was optimized; export it (-sEXPORTED_FUNCTIONS=_malloc,_free,...) or optimize less",
      );
    }
  }
  for (const name of NEEDED) {
    if (replacements.some((each) => isNeededName(each.name, name))) continue;
    const imported = functions.some((each) => each.imported && each.names.has(name));
    throw new Error(
      imported
        ? `its ${name} is imported from elsewhere: exchange it there`
        : `it has no function ${name} that can be found: name it, --function ${name}=INDEX`,
    );
  }
  return replacements;
}

/** A name that a program can give to a function of its own. */
function isPlain(name: string): boolean {
  return !/^(dl|emmalloc_|emscripten_builtin_|__libc_|internal_)/.test(name);
}

/** Whether the program has a malloc of its own over the library's: then plain names say nothing. */
function isWrapped(functions: readonly ModuleFunction[]): boolean {
  const outer = named(functions, "malloc");
  const inner = ["dlmalloc", "emmalloc_malloc", "emscripten_builtin_malloc", "__libc_malloc"]
    .map((name) => named(functions, name))
    .find((each) => each !== undefined);
  if (!outer || !inner || outer === inner || outer.imported) return false;
  return !forwardsTo(outer.text, inner.id);
}
