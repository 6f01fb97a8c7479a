/**
 * The public names: under which symbols the libraries define each function that the core exports.
 *
 * If a program used a name that libc's own malloc object defines but this library does not, the linker would pull that
 * object in and fail with duplicate symbols. So each target lists every name that its libc's object defines.
 */
import type { PublicSymbol } from "./object.ts";

export type Target = "wasm32-wasi" | "wasm32-emscripten";

/** The core's exports that are functions of C, POSIX or common extensions: each is exported under its usual name. */
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

/** The core's exports that are rsbmalloc's own: they only have a prefixed name. */
const OWN = ["page_alloc", "page_realloc", "page_free", "mallinfo", "malloc_check"] as const;

type Standard = (typeof STANDARD)[number];

/**
 * The names that each target's libc defines in the objects that define `malloc`, by the function that replaces them.
 */
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
  // All of these are weak, so that a program can define its own malloc on top of emscripten_builtin_malloc.
  "wasm32-emscripten": {
    malloc: ["__libc_malloc", "emscripten_builtin_malloc", "emmalloc_malloc"],
    free: ["__libc_free", "emscripten_builtin_free", "emmalloc_free"],
    calloc: ["__libc_calloc", "emscripten_builtin_calloc", "emmalloc_calloc"],
    realloc: ["__libc_realloc", "emscripten_builtin_realloc", "emmalloc_realloc"],
    memalign: ["emscripten_builtin_memalign", "emmalloc_memalign"],
    posix_memalign: ["emmalloc_posix_memalign"],
    malloc_usable_size: ["emmalloc_usable_size"],
  },
};

/** What the core exports only for Emscripten, with the names in dlmalloc and in emmalloc. */
const EMSCRIPTEN: Readonly<Record<string, readonly string[]>> = {
  gnu_mallinfo: ["mallinfo", "emmalloc_mallinfo"],
  malloc_stats: ["malloc_stats"],
  mallopt: ["mallopt"],
  malloc_trim: ["malloc_trim", "emmalloc_trim"],
  malloc_footprint: ["malloc_footprint", "malloc_max_footprint", "emmalloc_dynamic_heap_size"],
  malloc_footprint_limit: ["malloc_footprint_limit"],
  malloc_set_footprint_limit: ["malloc_set_footprint_limit"],
  emmalloc_free_dynamic_memory: ["emmalloc_free_dynamic_memory"],
  emmalloc_unclaimed_heap_memory: ["emmalloc_unclaimed_heap_memory"],
  realloc_in_place: ["realloc_in_place", "emmalloc_realloc_try"],
  aligned_realloc: ["aligned_realloc", "emmalloc_aligned_realloc"],
  aligned_realloc_uninitialized: ["emmalloc_aligned_realloc_uninitialized"],
  realloc_uninitialized: ["emmalloc_realloc_uninitialized"],
  independent_calloc: ["independent_calloc"],
  independent_comalloc: ["independent_comalloc"],
  bulk_free: ["bulk_free"],
};

export function prefixed(name: string): string {
  return `rsb${name}`;
}

/** Returns the symbols of `librsbmallocc-prefixed.a`, by the core's export. */
export function prefixedNames(): Map<string, PublicSymbol[]> {
  return new Map([...STANDARD, ...OWN].map((name) => [name, [{ name: prefixed(name) }]]));
}

/**
 * Returns the symbols of `librsbmallocc.a`, by the core's export. The prefixed name comes first: the library's own
 * calls use it, so that a program's `--wrap=malloc` does not catch them. Standard names that libc's malloc object does
 * not define are weak, as a program may bring its own `reallocarray`, for one.
 */
export function allNames(target: Target): Map<string, PublicSymbol[]> {
  const names = prefixedNames();
  for (const standard of STANDARD) {
    const inLibc = LIBC_MALLOC_OBJECT[target][standard] ?? [];
    for (const name of new Set([standard, ...inLibc])) {
      const strong = target === "wasm32-wasi" && inLibc.includes(name);
      names.get(standard)!.push(strong ? { name } : weak(name));
    }
  }
  if (target === "wasm32-emscripten") {
    for (const [name, symbols] of Object.entries(EMSCRIPTEN)) names.set(name, symbols.map(weak));
  }
  return names;
}

/**
 * Returns `allNames` and those that the libraries for threads add. Musl, and so wasi-libc and Emscripten, calls
 * `__pthread_tsd_run_dtors` when a thread ends; it is a weak function that does nothing, or, in a program with pthread
 * keys, a strong one that calls the destructors. The destructor gets no public symbol.
 */
export function threadNames(target: Target): Map<string, PublicSymbol[]> {
  return new Map([
    ...allNames(target),
    ["thread_end", [{ name: "rsbmalloc_thread_end" }, weak("__pthread_tsd_run_dtors")]],
    ["thread_destructor", []],
  ]);
}

/** The message of each fault, by the core's function that traps for it. */
export const FAULTS: Readonly<Record<string, string>> = {
  rsbmalloc_double_free: "double free",
  rsbmalloc_invalid_free: "free of a pointer that is no block's",
  rsbmalloc_overflow: "write past the end or before the start of a block",
  rsbmalloc_use_after_free: "write to a block after free",
  rsbmalloc_size_mismatch: "free with another size than the block's",
  rsbmalloc_alignment_mismatch: "free with another alignment than the block's",
  rsbmalloc_corruption: "heap corrupted",
};

/** Returns `names` and the functions of the faults, which get no public symbols. */
export function hardened(
  names: ReadonlyMap<string, readonly PublicSymbol[]>,
): Map<string, readonly PublicSymbol[]> {
  return new Map([...names, ...Object.keys(FAULTS).map((fault) => [fault, []] as const)]);
}

/** Returns the symbol of the object that a program's own `rsbmalloc_on_fault` takes the place of. */
export function onFaultNames(): Map<string, PublicSymbol[]> {
  return new Map([["rsbmalloc_on_fault", [weak("rsbmalloc_on_fault")]]]);
}

/** Returns the symbols of the object in the library for Emscripten that replaces Emscripten's `sbrk`. */
export function sbrkNames(): Map<string, PublicSymbol[]> {
  return new Map(["sbrk", "_sbrk64", "brk", "emscripten_get_sbrk_ptr"].map((name) => [name, [weak(name)]]));
}

// Names inside dlmalloc: its public functions with a prefix, and an internal function that others call or have inlined,
// by the export that replaces it.
const DLMALLOC_PREFIX = "dl";
const DLMALLOC_INTERNAL: Readonly<Record<string, readonly string[]>> = { memalign: ["internal_memalign"] };

/** The standard functions that libc implements on top of the others: they are not part of its malloc. */
const OVER_MALLOC: readonly string[] = ["reallocarray", "free_sized", "free_aligned_sized"];

/** Functions that need more of Emscripten's libraries than a finished module may have. */
const NEED_LIBRARIES: readonly string[] = ["malloc_stats", "emmalloc_unclaimed_heap_memory"];

/** Returns the names of the functions that one of the core replaces in a finished module, by the core's export. */
export function swapNames(): Map<string, string[]> {
  const names = new Map<string, string[]>([...STANDARD, ...OWN].map((name) => [name, []]));
  for (const name of STANDARD) {
    if (OVER_MALLOC.includes(name)) continue;
    const inLibc = Object.values(LIBC_MALLOC_OBJECT).flatMap((object) => object[name] ?? []);
    names.set(name, [name, ...inLibc, ...(DLMALLOC_INTERNAL[name] ?? [])]);
  }
  for (const [name, symbols] of Object.entries(EMSCRIPTEN)) {
    names.set(name, NEED_LIBRARIES.includes(name) ? [] : [...symbols]);
  }
  for (const [name, symbols] of names) {
    const inside = symbols
      .filter((symbol) => !/^em|_libc_/.test(symbol))
      .map((symbol) => DLMALLOC_PREFIX + symbol);
    names.set(name, [...new Set([...symbols, ...inside])]);
  }
  return names;
}

function weak(name: string): PublicSymbol {
  return { name, weak: true };
}

/** Returns the names that the stand-alone module exports, by the core's export: standard and prefixed ones. */
export function moduleNames(): Map<string, string[]> {
  const names = new Map<string, string[]>(STANDARD.map((name) => [name, [name, prefixed(name)]]));
  for (const name of OWN) names.set(name, [prefixed(name)]);
  return names;
}
