/** Which functions are traced, and by what names: for trace.ts, which rewrites them, and for who follows their calls. */

/** The functions that are traced; a program may have them under further names. */
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

/** Whether a function of that name is the traced one: linkers keep one name of several that a function has. */
export function isTracedName(name: string, traced: Traced): boolean {
  return [traced, `rsb${traced}`, `__libc_${traced}`, `emscripten_builtin_${traced}`].includes(name);
}
