/** `rsbmalloc flags`: what a compile line needs to use the C library. */
import { existsSync, readdirSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import type { Sade } from "sade";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** Triples that another one's library serves too. */
const SAME_AS: Readonly<Record<string, string>> = { "wasm32-wasip1": "wasm32-wasi" };

const NAME = "rsbmallocc";
/** The further words of a library's file name: `prefixed` and a variant. */
const LIBRARY = new RegExp(`^lib${NAME}((?:-[a-z]+)*)\\.a$`);
const PREFIXED = "prefixed";

export interface Flags {
  readonly target?: string;
  /** `true` where the option was given without a name. */
  readonly variant?: string | true;
  readonly prefixed?: boolean;
  readonly cflags?: boolean;
  readonly libs?: boolean;
}

export function register(cli: Sade): void {
  cli
    .command("flags", "Print what a compile line needs: where the header and the library are")
    .option("--target", "Triple that is compiled for", "wasm32-wasi")
    .option("--prefixed", "The names with the prefix rsb alone, beside the libc's own malloc")
    .option("--variant", "Another build of the library than the usual one")
    .option("--cflags", "Flags for the compiler only")
    .option("--libs", "Flags for the linker only")
    .example("flags")
    .example("flags --prefixed --cflags")
    .action(({ _: [extra], ...flags }: Flags & { readonly _: readonly string[] }) => {
      if (extra !== undefined) throw new Error(`flags takes options only, not ${extra}`);
      console.log(formatFlags(flags));
    });
}

/** Throws an Error of one line if there is no such library. */
export function formatFlags({ target = "wasm32-wasi", variant, prefixed, cflags, libs }: Flags): string {
  if (variant === true) throw new Error("--variant needs a name");
  const lib = path.join(ROOT, "lib");
  const folders = existsSync(lib) ? readdirSync(lib).filter((name) => name.startsWith("wasm")) : [];
  const targets = [...folders, ...Object.keys(SAME_AS).filter((name) => folders.includes(SAME_AS[name]!))];
  const found = targets.includes(target);
  if (!found) throw new Error(`no library for target ${target}; there is: ${list(targets)}`);

  const folder = path.join(lib, SAME_AS[target] ?? target);
  const libraries = readLibraries(folder);
  const words = [...(prefixed ? [PREFIXED] : []), ...(variant === undefined ? [] : [variant])];
  const library = libraries.find((other) => sameSet(other.words, words));
  if (!library) {
    const options = libraries.map((other) => other.words.map(optionOf).sort().join(" ")).filter(Boolean);
    throw new Error(
      `no library with ${words.map(optionOf).join(" ")} for target ${target}; there is: ${list(options)}`,
    );
  }

  const both = !cflags === !libs;
  const forCompiler = [`-I${shown(path.join(ROOT, "include"))}`];
  const forLinker = [`-L${shown(folder)}`, `-l${library.name}`];
  return [...(both || cflags ? forCompiler : []), ...(both || libs ? forLinker : [])].join(" ");
}

interface Library {
  /** As the linker's -l takes it. */
  readonly name: string;
  readonly words: readonly string[];
}

function readLibraries(folder: string): Library[] {
  return readdirSync(folder).flatMap((file) => {
    const words = LIBRARY.exec(file)?.[1];
    return words === undefined ? [] : [{ name: NAME + words, words: words.split("-").filter(Boolean) }];
  });
}

function optionOf(word: string): string {
  return word === PREFIXED ? "--prefixed" : `--variant ${word}`;
}

function sameSet(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((item) => b.includes(item));
}

function list(items: readonly string[]): string {
  return items.join(", ") || "none";
}

/** A path as a compiler finds it from here. A shell that splits the flags would split a name with spaces too. */
function shown(folder: string): string {
  const relative = path.relative("", folder);
  const result = relative.startsWith("..") ? folder : relative;
  if (/\s/.test(result))
    throw new Error(`the path ${result} has spaces, which compile lines cannot hold: move it`);
  return result;
}
