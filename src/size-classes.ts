// Request size <-> bin.
//
//     4, 8, 16, 32, 48, 64, then 1 << SMALL_STEPS bins per doubling: 80, 96, 112, 128, 160, ... 1024,
//     then MEDIUM_BINS per doubling: 1088, 1152, 1280, 1408, 1536, ... 2048, 2176, 2304, ... 16384
//
// Programs often ask for a power of two and a little more, such as a page and its header, so above SMALL_MAX there is
// a bin just above each power of two.
//
// Slot sizes of 16 B and more are multiples of 16, so the alignment of a slot follows from that of its page.

import { FIRST_BIN, MEDIUM_BINS, SMALL_BINS, SMALL_MAX, SMALL_STEPS } from "./config";

/** `formula` of a size minus the size's bin, in the range with 1 << SMALL_STEPS bins per doubling. */
const SMALL: u32 = (4 << SMALL_STEPS) - FIRST_BIN - 2;

/** log2 of the steps per doubling that bins above SMALL_MAX are composed of: sixteenths. */
const FINE_STEPS: u32 = 4;

/** How many doublings of sixteenths `formula` counts up to SMALL_MAX, and the first bin above it. */
const DOUBLINGS: u32 = 11 - FINE_STEPS;
export const FIRST_MEDIUM: u32 = FIRST_BIN + SMALL_BINS;

/**
 * Returns size - 1 as a tiny floating-point number with `steps` bits of mantissa, below the exponent: it counts up with
 * the top `steps` + 1 bits of size - 1, and bins count up with it.
 */
@inline
function formula(size: usize, steps: u32): u32 {
  const last = <u32>size - 1;
  const shift = 31 - steps - clz<u32>(last);
  return (last >>> shift) + (shift << steps);
}

/** Returns the largest size for which `formula` returns `value`. */
@inline
function inverse(value: u32, steps: u32): u32 {
  return ((value & ((1 << steps) - 1)) + (1 << steps) + 1) << ((value >>> steps) - 1);
}

/** Returns the bin for a request of `size` bytes, at most BIN_MAX. */
export function binOfSize(size: usize): u32 {
  if (size <= 8) return FIRST_BIN + u32(size > 4);
  if (size <= 16 << SMALL_STEPS) return FIRST_BIN + 1 + <u32>((size + 15) >>> 4);
  if (size <= SMALL_MAX) return formula(size, SMALL_STEPS) - SMALL;
  // A bin spans two sixteenths, except that the first two of a doubling are a bin each.
  const value = formula(size, FINE_STEPS);
  const halved = (value >>> 1) + u32((value & ((1 << FINE_STEPS) - 1)) != 0);
  return halved + (value >>> FINE_STEPS) + (FIRST_MEDIUM - DOUBLINGS * MEDIUM_BINS);
}

/** Returns the size of a bin's slots, in bytes. */
export function slotSize(bin: u32): u32 {
  const linear = bin - (FIRST_BIN + 1);
  if (<i32>linear <= 0) return bin == FIRST_BIN ? 4 : 8;
  if (linear <= 1 << SMALL_STEPS) return linear << 4;
  if (bin < FIRST_MEDIUM) return inverse(bin + SMALL, SMALL_STEPS);
  const medium = bin - FIRST_MEDIUM;
  const eighths = medium % MEDIUM_BINS;
  const sixteenths = eighths ? eighths << 1 : 1;
  return ((1 << FINE_STEPS) + sixteenths) << (medium / MEDIUM_BINS + DOUBLINGS - 1);
}

/**
 * Returns a size, `size` at least, whose slots are aligned to `alignment`, a power of two below PAGE: a multiple of it.
 * Where slot sizes differ by the alignment or more, all of them are multiples of it; where they differ by less, all
 * multiples of it are slot sizes. And runs start at page boundaries.
 */
@inline
export function alignedSize(size: usize, alignment: usize): usize {
  return (max<usize>(size, 1) + alignment - 1) & -alignment;
}
