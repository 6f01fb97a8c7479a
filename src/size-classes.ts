// Request size <-> bin.
//
//     4, 8, 16, 32, 48, 64, then 1 << SMALL_STEPS bins to a doubling: 80, 96, 112, 128, 160, ... 1024,
//     then MEDIUM_BINS: 1088, 1152, 1280, 1408, 1536, ... 2048, 2176, 2304, ... 16384
//
// Programs like powers of two with a little more, as a page and its header: so there is a bin just above each.
//
// A slot of 16 B or more is a multiple of 16, so that its alignment follows from that of its page.

import { FIRST_BIN, MEDIUM_BINS, SMALL_BINS, SMALL_MAX, SMALL_STEPS } from "./config";

/** What the formula gives for a size, less that size's bin, where there are 1 << SMALL_STEPS bins to a doubling. */
const SMALL: u32 = (4 << SMALL_STEPS) - FIRST_BIN - 2;

/** log2 of the steps that those of more than SMALL_MAX bytes are made of: sixteenths. */
const FINE_STEPS: u32 = 4;

/** How many doublings the formula counts below SMALL_MAX then, and the first bin above. */
const DOUBLINGS: u32 = 11 - FINE_STEPS;
const FIRST_MEDIUM: u32 = FIRST_BIN + SMALL_BINS;

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
  if (size <= SMALL_MAX) return formula(size, SMALL_STEPS) - SMALL;
  // Two sixteenths are one bin, but the first two of a doubling are one each.
  const value = formula(size, FINE_STEPS);
  const halved = (value >>> 1) + u32((value & ((1 << FINE_STEPS) - 1)) != 0);
  return halved + (value >>> FINE_STEPS) + (FIRST_MEDIUM - DOUBLINGS * MEDIUM_BINS);
}

/** The size of a bin's slots in bytes. */
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
 * The first bin from `bin` on whose slots lie at multiples of `alignment`, a power of two of PAGE at most. Runs start at a page, so
 * a slot is aligned when its size is a multiple of the alignment. BIN_MAX is.
 */
export function alignedBin(bin: u32, alignment: u32): u32 {
  while (slotSize(bin) & (alignment - 1)) ++bin;
  return bin;
}
