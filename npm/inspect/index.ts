/**
 * What is in a heap, read from outside: of a WASI program that this runs, or of any instance whose memory is at hand.
 * This module is for Node; `rsbmalloc/inspect/browser` is the part of it that browsers can load too.
 */
export * from "./browser.ts";
export { inspect, ProgramError, type RunOptions } from "./run.ts";
export { readLayouts } from "./layouts.ts";
