/** Describes the layout of the heap in memory (src/layout.ts), for tools that look at it from outside. */
import { compile } from "./core.ts";

/**
 * What src/layout.ts exports, for a core that is compiled with `constants`: each constant by its name, and its functions
 * as tables.
 */
export async function describeLayout(
  constants: readonly string[],
): Promise<Record<string, number | number[]>> {
  const { module } = await compile(["src/layout.ts"], constants);
  const { instance } = await WebAssembly.instantiate(Uint8Array.from(module));
  const numbers: Record<string, number> = {};
  const functions: Record<string, (argument: number) => number> = {};
  for (const [name, value] of Object.entries(instance.exports)) {
    if (value instanceof WebAssembly.Global) numbers[name] = value.value as number;
    else if (typeof value === "function") functions[name] = value as (argument: number) => number;
  }

  const { FIRST_BIN, BINS, RUN_CLASSES } = numbers as Record<"FIRST_BIN" | "BINS" | "RUN_CLASSES", number>;
  const { slotSize, runClass } = functions as Record<"slotSize" | "runClass", (n: number) => number>;
  return {
    ...numbers,
    // By bin, the first being FIRST_BIN: bytes of a slot.
    SLOT_SIZES: Array.from({ length: BINS }, (_, bin) => slotSize(FIRST_BIN + bin)),
    // By length class of free runs: the shortest run in it, in pages.
    RUN_MINIMA: Array.from({ length: RUN_CLASSES }, (_, wanted) => shortestOf(wanted, runClass)),
  };
}

/** The least length that `runClass`, which never falls, puts into the class `wanted` or one behind it. */
function shortestOf(wanted: number, runClass: (pages: number) => number): number {
  let low = 1;
  let high = 1 << 20;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (runClass(middle) >= wanted) high = middle;
    else low = middle + 1;
  }
  return low;
}
