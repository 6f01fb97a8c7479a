/** `rsbmalloc flags`: prints the compiler and linker flags that select a C library. */
import { existsSync, readdirSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import type { Command } from "commander";
import { single } from "./command-line.ts";
import { RESTORE } from "./errors.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** Triples that share the library of another one. cabi/packages/rsbmalloc-config.cmake accepts the same. */
const SAME_AS: Readonly<Record<string, string>> = {
  wasm32: "wasm32-wasi",
  "wasm32-unknown-unknown": "wasm32-wasi",
  "wasm32-unknown-wasi": "wasm32-wasi",
  "wasm32-wasip1": "wasm32-wasi",
  "wasm32-unknown-wasip1": "wasm32-wasi",
  "wasm32-unknown-wasi-threads": "wasm32-wasi-threads",
  "wasm32-wasip1-threads": "wasm32-wasi-threads",
  "wasm32-unknown-wasip1-threads": "wasm32-wasi-threads",
  "wasm32-unknown-emscripten": "wasm32-emscripten",
};

/** Name of a library's file. `prefixed` and the variant, if any, are part of it. */
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
    .description("Print the compiler and linker flags for a library")
    .option("--target <triple>", "Target triple (default: wasm32-wasi)", single)
    .option("--prefixed", "Define only the names with the prefix rsb, beside libc's own malloc")
    .option("--variant <name>", "Variant of the library, such as hardened or mt", single)
    .option("--cflags", "Print only the compiler flags")
    .option("--libs", "Print only the linker flags")
    .addHelpText(
      "after",
      `
Examples:
  $ rsbmalloc flags
  $ rsbmalloc flags --prefixed --cflags
  $ rsbmalloc flags --target wasm32-wasi-threads --variant mt`,
    )
    .showHelpAfterError("; see rsbmalloc flags --help")
    .action((flags: Flags) => {
      process.stdout.write(`${formatFlags(flags)}\n`);
    });
}

/** Returns the flags on one line. Throws a one-line Error if there is no such library. */
export function formatFlags({ target = "wasm32-wasi", variant, prefixed, cflags, libs }: Flags): string {
  const lib = path.join(ROOT, "lib");
  const folders = existsSync(lib) ? filesIn(lib).filter((name) => name.startsWith("wasm")) : [];
  if (folders.length === 0) throw new Error(`no libraries in ${lib}: ${RESTORE}`);
  const targets = [...folders, ...Object.keys(SAME_AS).filter((name) => folders.includes(SAME_AS[name]!))];
  if (!targets.includes(target))
    throw new Error(`no library for target ${target}; available: ${joined(targets)}`);

  const folder = path.join(lib, SAME_AS[target] ?? target);
  const libraries = librariesIn(folder);
  const asked = optionsOf(prefixed, variant);
  const name = libraries.get(asked);
  if (name === undefined) {
    const what = asked ? `with ${asked}` : "without --variant";
    const elsewhere = asked ? folders.filter((other) => librariesIn(path.join(lib, other)).has(asked)) : [];
    const use = elsewhere.length > 0 ? ` (use --target ${elsewhere.join(" or ")})` : "";
    const others = joined([...libraries.keys()].filter(Boolean));
    throw new Error(`no library ${what} for target ${target}${use}; available: ${others}`);
  }

  const both = !cflags === !libs;
  const forCompiler = [`-I${flagPath(path.join(ROOT, "include"))}`];
  const forLinker = [`-L${flagPath(folder)}`, `-l${name}`];
  return [...(both || cflags ? forCompiler : []), ...(both || libs ? forLinker : [])].join(" ");
}

/** Returns the names in a folder, in the same order on every file system. */
function filesIn(folder: string): string[] {
  return readdirSync(folder).sort();
}

/** Returns the names of a folder's libraries, by the options that select them. */
function librariesIn(folder: string): Map<string, string> {
  return new Map(
    filesIn(folder).flatMap((file): [string, string][] => {
      const [, name, prefixed, variant] = LIBRARY.exec(file) ?? [];
      return name === undefined ? [] : [[optionsOf(prefixed, variant), name]];
    }),
  );
}

/** Returns the options that select a library; empty for the default one. */
function optionsOf(prefixed: string | boolean | undefined, variant: string | undefined): string {
  return [prefixed && "--prefixed", variant && `--variant ${variant}`].filter(Boolean).join(" ");
}

function joined(items: readonly string[]): string {
  return items.join(", ") || "none";
}

/** Returns a path for a command line. Throws a one-line Error if it has spaces: the shell would split it there. */
function flagPath(folder: string): string {
  const relative = path.relative("", folder);
  const result = relative.startsWith("..") ? folder : relative;
  if (/\s/.test(result))
    throw new Error(`the path "${result}" has spaces, where a shell would split the flags: move the package`);
  return result;
}
