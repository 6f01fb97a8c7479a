/** Functions without names in call stacks, and how to get names. */

/** What a program without function names needs. Older clangs refuse --no-wasm-opt, and run wasm-opt only if linking has -O. */
export const LINK_WITH_NAMES =
  "link with names (clang: --no-wasm-opt and no -s; older clang: compile with -c, then link without -O and -s; emcc: --profiling-funcs)";

/** Returns what stands for the name of a function without one. */
export function nameless(index: string): string {
  return `function ${index}`;
}

/** Returns a line that says how to get names if a call stack has none, or nothing. */
export function namesHint(stack: readonly string[]): string[] {
  const hasNone = stack.length > 0 && stack.every((name) => /^function \d+$/.test(name));
  return hasNone ? [`no function names: ${LINK_WITH_NAMES}`] : [];
}
