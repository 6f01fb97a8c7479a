/**
 * Inspects heaps from outside: that of a WASI program that `inspect` runs, or that of any instance whose memory is
 * accessible. This module needs Node; `rsbmalloc/inspect/browser` is the part that also runs in browsers.
 */
export * from "./browser.ts";
export { inspect, ProgramError, type RunOptions } from "./run.ts";
export { readLayouts } from "./layouts.ts";
