/** `rsbmalloc flags`: what a compile line needs to use the C library. */
import { existsSync, readdirSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import type { Command } from "commander";
import { single } from "./command-line.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** Triples that another one's library serves too. */
const SAME_AS: Readonly<Record<string, string>> = {
  wasm32: "wasm32-wasi",
  "wasm32-unknown-unknown": "wasm32-wasi",
  "wasm32-wasip1": "wasm32-wasi",
  "wasm32-wasip1-threads": "wasm32-wasi-threads",
  "wasm32-unknown-emscripten": "wasm32-emscripten",
};

/** A library's file. What sets it apart is in its name: `prefixed`, a variant, or both. */
const LIBRARY = /^lib(rsbmallocc(?:-(prefixed))?(?:-([a-z-]+))?)\.a$/;

export interface Flags {
  readonly target?: string;
  readonly variant?: string;
  readonly prefixed?: boolean;
  readonly cflags?: boolean;
  readonly libs?: boolean;
}

export function registerFlags(program: Command): void {
  program
    .command("flags")
    .description("Print what a compile line needs: where the header and the library are")
    .option("--target <triple>", "Triple that is compiled for; wasm32-wasi if none is given", single)
    .option("--prefixed", "The names with the prefix rsb alone, beside the libc's own malloc")
    .option("--variant <name>", "Another build of the library than the usual one", single)
    .option("--cflags", "Flags for the compiler only")
    .option("--libs", "Flags for the linker only")
    .addHelpText(
      "after",
      `
Examples:
  $ rsbmalloc flags
  $ rsbmalloc flags --prefixed --cflags
  $ rsbmalloc flags --target wasm32-wasi-threads --variant mt`,
    )
    .action((flags: Flags) => {
      process.stdout.write(`${formatFlags(flags)}\n`);
    });
}

/** Throws an Error of one line if there is no such library. */
export function formatFlags({ target = "wasm32-wasi", variant, prefixed, cflags, libs }: Flags): string {
  const lib = path.join(ROOT, "lib");
  const folders = existsSync(lib) ? readdirSync(lib).filter((name) => name.startsWith("wasm")) : [];
  const targets = [...folders, ...Object.keys(SAME_AS).filter((name) => folders.includes(SAME_AS[name]!))];
  const found = targets.includes(target);
  if (!found) throw new Error(`no library for target ${target}; there is: ${list(targets)}`);

  const folder = path.join(lib, SAME_AS[target] ?? target);
  const libraries = new Map(
    readdirSync(folder).flatMap((file): [string, string][] => {
      const [, name, prefixed, variant] = LIBRARY.exec(file) ?? [];
      return name === undefined ? [] : [[optionsOf(prefixed, variant), name]];
    }),
  );
  const asked = optionsOf(prefixed, variant);
  const name = libraries.get(asked);
  if (name === undefined) {
    const what = asked ? `with ${asked}` : "without --variant";
    const others = list([...libraries.keys()].filter(Boolean));
    throw new Error(`no library ${what} for target ${target}; there is: ${others}`);
  }

  const both = !cflags === !libs;
  const forCompiler = [`-I${shown(path.join(ROOT, "include"))}`];
  const forLinker = [`-L${shown(folder)}`, `-l${name}`];
  return [...(both || cflags ? forCompiler : []), ...(both || libs ? forLinker : [])].join(" ");
}

/** What a library is asked for by; empty for the usual one. */
function optionsOf(prefixed: string | boolean | undefined, variant: string | undefined): string {
  return [prefixed && "--prefixed", variant && `--variant ${variant}`].filter(Boolean).join(" ");
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
