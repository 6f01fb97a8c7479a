/** Which function of a module is which function of its malloc. */
import binaryen from "binaryen";
import { forwardsTo, parse } from "./text.ts";

/** A function of a module. */
export interface ModuleFunction {
  readonly index: number;
  /** As Binaryen calls it: the name section's name, or a made-up one. */
  readonly id: string;
  /** By the name section, the exports, a symbol map or the user. */
  readonly names: ReadonlySet<string>;
  readonly signature: string;
  readonly imported: boolean;
  readonly info: binaryen.FunctionInfo;
}

/** A function that is to be replaced, and the name that the core exports its replacement by. */
export interface Replacement {
  readonly old: ModuleFunction;
  readonly name: string;
}

/** What the user says of a module's functions: name to index. */
export type GivenNames = ReadonlyMap<string, number>;

/** Names of one of the functions without which there is nothing to exchange. */
const NEEDED = ["malloc", "free"] as const;

export function isNameOf(name: string, wanted: (typeof NEEDED)[number]): boolean {
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
  const infos = Array.from({ length: module.getNumFunctions() }, (_, index) =>
    binaryen.getFunctionInfo(module.getFunctionByIndex(index)),
  );
  const names = infos.map(({ name, module: from, base }) => {
    if (from) return new Set([base!]);
    return new Set(hasNames ? [name] : []);
  });
  for (let i = 0; i < module.getNumExports(); i++) {
    const { kind, name, value } = binaryen.getExportInfo(module.getExportByIndex(i));
    if (kind === binaryen.ExternalFunction) names[infos.findIndex((info) => info.name === value)]!.add(name);
  }
  for (const [name, index] of given) {
    if (!infos[index])
      throw new Error(`there is no function ${index} for ${name}: the module has ${infos.length}`);
    // What is said of a function by hand holds, whatever a module says of others.
    for (const other of names) other.delete(name);
    names[index]!.add(name);
  }
  return infos.map((info, index) => ({
    index,
    id: info.name,
    names: names[index]!,
    signature: signatureOf(info),
    imported: Boolean(info.module),
    info,
  }));
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
  const all = functions.flatMap((old): Replacement[] => {
    const name = [...old.names].find((each) => signatures.has(each));
    return name === undefined || old.imported ? [] : [{ old, name }];
  });
  const replacements = all.filter(({ name }) => !isWrapped(functions) || !isPlain(name));
  for (const { old, name } of replacements) {
    if (old.signature !== signatures.get(name)) {
      throw new Error(
        `function ${old.index}, ${name}, takes and returns ${old.signature} and not ${signatures.get(name)}: ` +
          "it was changed when the program was optimized; export it (-sEXPORTED_FUNCTIONS=_malloc,_free,...) or optimize less",
      );
    }
  }
  for (const name of NEEDED) {
    if (replacements.some((each) => isNameOf(each.name, name))) continue;
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
  return !forwardsTo(parse(binaryen.emitText(outer.info.body)), inner.id);
}
