/** Describes the layout of the heap in memory (src/layout.ts), for tools that inspect it from outside. */
import { compile } from "./core.ts";

/** Returns what src/layout.ts exports when compiled with `constants`: constants by name, functions as tables. */
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
    // The size of a slot in bytes, by bin, from FIRST_BIN on.
    SLOT_SIZES: Array.from({ length: BINS }, (_, bin) => slotSize(FIRST_BIN + bin)),
    // By grade: the least number of free pages that has it.
    GRADE_MINIMA: Array.from({ length: BEST + 1 }, (_, wanted) => fewestOf(wanted, gradeOf)),
  };
}

/** Returns the fewest pages for which `gradeOf`, a non-decreasing function, gives at least the grade `wanted`. */
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
