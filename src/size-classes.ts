// Request size <-> bin.
//
//     4, 8, 16, 32, 48, 64, then 1 << SMALL_STEPS bins to a doubling: 80, 96, 112, 128, 160, ... 1024,
//     then 1 << MEDIUM_STEPS: 1280, ... 16384
//
// A slot of 16 B or more is a multiple of 16, so that its alignment follows from that of its page.

import { FIRST_BIN, MEDIUM_STEPS, SMALL_BINS, SMALL_MAX, SMALL_STEPS } from "./config";

/** What the formula gives for a size, less that size's bin, where there are 1 << SMALL_STEPS bins to a doubling. */
const SMALL: u32 = (4 << SMALL_STEPS) - FIRST_BIN - 2;

/** The same where there are 1 << MEDIUM_STEPS. */
const MEDIUM: u32 = ((11 - MEDIUM_STEPS) << MEDIUM_STEPS) - FIRST_BIN - SMALL_BINS;

/** Bins count up with the top `steps` + 1 bits of the size less one: a bin's number is a tiny floating-point number. */
@inline
function formula(size: usize, steps: u32): u32 {
  const last = <u32>size - 1;
  const shift = 31 - steps - clz<u32>(last);
  return (last >>> shift) + (shift << steps);
}

/** The largest size for which the formula gives `value`. */
@inline
function inverse(value: u32, steps: u32): u32 {
  return ((value & ((1 << steps) - 1)) + (1 << steps) + 1) << ((value >>> steps) - 1);
}

/** The bin of a request of `size` bytes, BIN_MAX at most. */
export function binOfSize(size: usize): u32 {
  if (size <= 8) return FIRST_BIN + u32(size > 4);
  if (size <= 16 << SMALL_STEPS) return FIRST_BIN + 1 + <u32>((size + 15) >>> 4);
  return size <= SMALL_MAX ? formula(size, SMALL_STEPS) - SMALL : formula(size, MEDIUM_STEPS) - MEDIUM;
}

/** The size of a bin's slots in bytes. */
export function slotSize(bin: u32): u32 {
  const linear = bin - (FIRST_BIN + 1);
  if (<i32>linear <= 0) return bin == FIRST_BIN ? 4 : 8;
  if (linear <= 1 << SMALL_STEPS) return linear << 4;
  return bin < FIRST_BIN + SMALL_BINS
    ? inverse(bin + SMALL, SMALL_STEPS)
    : inverse(bin + MEDIUM, MEDIUM_STEPS);
}
