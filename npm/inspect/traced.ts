/** The functions that are traced and their names. trace.ts rewrites them, leaks.ts records their calls. */

/** The functions that are traced; a program may have them under other names. */
export const TRACED = [
  "malloc",
  "calloc",
  "realloc",
  "reallocarray",
  "aligned_alloc",
  "memalign",
  "posix_memalign",
  "valloc",
  "pvalloc",
  "page_alloc",
  "page_realloc",
  "free",
  "free_sized",
  "free_aligned_sized",
  "page_free",
] as const;

export type Traced = (typeof TRACED)[number];

/** The module that `enter` and `leave` are imported from. */
export const TRACE_MODULE = "rsbmalloc_trace";

/** Returns whether a name is one of the traced function's: of several names of a function, linkers keep one. */
export function isTracedName(name: string, traced: Traced): boolean {
  return [traced, `rsb${traced}`, `__libc_${traced}`, `emscripten_builtin_${traced}`].includes(name);
}
