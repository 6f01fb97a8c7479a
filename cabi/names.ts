/**
 * The public names: which symbols each function that the core exports has in the libraries.
 *
 * A program that uses a name which libc's own malloc object defines and this library does not would pull that object
 * in, and the link would end in duplicate symbols. So each target lists every name of that object.
 */
import type { PublicSymbol } from "./object.ts";

export type Target = "wasm32-wasi";

/** The functions that the core exports, with their standard names. */
const STANDARD = [
  "malloc",
  "free",
  "calloc",
  "realloc",
  "aligned_alloc",
  "memalign",
  "posix_memalign",
  "valloc",
  "pvalloc",
  "reallocarray",
  "malloc_usable_size",
  "free_sized",
  "free_aligned_sized",
] as const;

/** Those that no standard knows: they have a prefixed name alone. */
const OWN = ["page_alloc", "page_realloc", "page_free", "mallinfo"] as const;

type Standard = (typeof STANDARD)[number];

/** Every name that the target's libc defines in the object that defines `malloc`, by the function that takes its place. */
const LIBC_MALLOC_OBJECT: Readonly<Record<Target, Partial<Record<Standard, readonly string[]>>>> = {
  "wasm32-wasi": {
    malloc: ["malloc", "__libc_malloc"],
    free: ["free", "__libc_free"],
    calloc: ["calloc", "__libc_calloc"],
    realloc: ["realloc"],
    aligned_alloc: ["aligned_alloc"],
    posix_memalign: ["posix_memalign"],
    malloc_usable_size: ["malloc_usable_size"],
  },
};

export function prefixed(name: string): string {
  return `rsb${name}`;
}

/** The symbols of `librsbmallocc-prefixed.a`, by the core's export. */
export function prefixedNames(): Map<string, PublicSymbol[]> {
  return new Map([...STANDARD, ...OWN].map((name) => [name, [{ name: prefixed(name) }]]));
}

/**
 * The symbols of `librsbmallocc.a`, by the core's export. The prefixed name comes first: the library's own calls use
 * it, and a program's `--wrap=malloc` does not catch them. Standard names that are not in libc's malloc object are weak,
 * as a program may bring its own `reallocarray`.
 */
export function allNames(target: Target): Map<string, PublicSymbol[]> {
  const names = prefixedNames();
  for (const standard of STANDARD) {
    const strong = LIBC_MALLOC_OBJECT[target][standard];
    const added = strong ? strong.map((name) => ({ name })) : [{ name: standard, weak: true }];
    names.get(standard)!.push(...added);
  }
  return names;
}

/** The names alone, in the order of the symbol table. */
export function flatNames(functions: ReadonlyMap<string, readonly PublicSymbol[]>): string[] {
  return [...functions.values()].flatMap((symbols) => symbols.map(({ name }) => name));
}

/** The names that the stand-alone module exports, by the core's export: the standard one and the prefixed one. */
export function moduleNames(): Map<string, string[]> {
  const names = new Map<string, string[]>(STANDARD.map((name) => [name, [name, prefixed(name)]]));
  for (const name of OWN) names.set(name, [prefixed(name)]);
  return names;
}
