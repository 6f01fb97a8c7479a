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

  const { FIRST_BIN, BINS, BEST } = numbers as Record<"FIRST_BIN" | "BINS" | "BEST", number>;
  const { slotSize, gradeOf } = functions as Record<"slotSize" | "gradeOf", (n: number) => number>;
  return {
    ...numbers,
    // By bin, the first being FIRST_BIN: bytes of a slot.
    SLOT_SIZES: Array.from({ length: BINS }, (_, bin) => slotSize(FIRST_BIN + bin)),
    // By grade of free pages: how many have it, at least.
    GRADE_MINIMA: Array.from({ length: BEST + 1 }, (_, wanted) => fewestOf(wanted, gradeOf)),
  };
}

/** The fewest pages to which `gradeOf`, which never falls, gives the grade `wanted` or a better one. */
function fewestOf(wanted: number, gradeOf: (pages: number) => number): number {
  let low = 0;
  let high = 1 << 20;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (gradeOf(middle) >= wanted) high = middle;
    else low = middle + 1;
  }
  return low;
}
