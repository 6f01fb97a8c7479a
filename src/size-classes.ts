// Request size <-> bin.
//
//     4, 8, 16, 32, 48, 64, then 1 << STEP_BITS bins to a doubling: 80, 96, 112, 128, 160, ... 16384
//
// A slot of 16 B or more is a multiple of 16, so that its alignment follows from that of its page.

import { FIRST_BIN, STEP_BITS } from "./config";

/** The geometric formula's value for a size, less that size's bin. */
const GEOMETRIC: u32 = (4 << STEP_BITS) - FIRST_BIN - 2;

/** The bin of a request of `size` bytes, BIN_MAX at most. */
export function binOfSize(size: usize): u32 {
  if (size <= 8) return FIRST_BIN + u32(size > 4);
  if (size <= 16 << STEP_BITS) return FIRST_BIN + 1 + <u32>((size + 15) >>> 4);
  const shift = 31 - STEP_BITS - clz<u32>(<u32>size - 1);
  return ((<u32>size - 1) >>> shift) + (shift << STEP_BITS) - GEOMETRIC;
}

/** The size of a bin's slots in bytes. */
export function slotSize(bin: u32): u32 {
  const linear = bin - (FIRST_BIN + 1);
  if (<i32>linear <= 0) return bin == FIRST_BIN ? 4 : 8;
  if (linear <= 1 << STEP_BITS) return linear << 4;
  const index = bin + GEOMETRIC;
  return ((index & ((1 << STEP_BITS) - 1)) + (1 << STEP_BITS) + 1) << ((index >>> STEP_BITS) - 1);
}
