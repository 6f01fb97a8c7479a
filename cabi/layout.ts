/** Describes the layout of the heap in memory (src/layout.ts), for tools that inspect it from outside. */
import { compile } from "./core.ts";

/** Returns what src/layout.ts exports when compiled with `constants`: constants by name, and `slotSize` as a table. */
export async function describeLayout(
  constants: readonly string[],
): Promise<Record<string, number | number[]>> {
  const { module } = await compile(["src/layout.ts"], constants);
  const { instance } = await WebAssembly.instantiate(Uint8Array.from(module));
  const { slotSize, ...globals } = instance.exports;
  const numbers: Record<string, number> = {};
  for (const [name, value] of Object.entries(globals))
    if (value instanceof WebAssembly.Global) numbers[name] = value.value as number;

  const { FIRST_BIN, BINS } = numbers as Record<"FIRST_BIN" | "BINS", number>;
  const sizeOf = slotSize as (bin: number) => number;
  return {
    ...numbers,
    // The size of a slot in bytes, by bin, from FIRST_BIN on.
    SLOT_SIZES: Array.from({ length: BINS }, (_, bin) => sizeOf(FIRST_BIN + bin)),
  };
}
