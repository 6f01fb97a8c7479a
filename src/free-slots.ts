// The hardened build's account of a run's slots. It stands in the Run, out of the reach of a program that writes where it
// should not; slots that are free hold nothing.
//
//     Run    | free | ... as everywhere ... | other | used | otherUsed | half | reciprocal |
//
// `free` has a bit for each slot that is free, `used` one for each that ever was a block's. They are about 64 slots: all that
// a run has, or the half of the smallest ones that slots are taken from; `other` is about the other half then. The first
// half has none that is free only if the second has none either. A ring's own place looks like a run that has none.

import { RUN_STEP, guards } from "./config";
import { Run } from "./pages";

const HALF: u32 = 64;

/** `free` is where others have `free` and `event`. */
@unmanaged
class SlotRun extends Run {
  other: u64;
  used: u64;
  otherUsed: u64;
  /** The first slot that `free` and `used` are about. */
  half: u32;
  /** Divides offsets by the slots' size. */
  reciprocal: u32;
}

/** Offsets, for those who look at the heap from outside. */
export const FREE_BITS: usize = offsetof<Run>("free");
export const OTHER_FREE_BITS: usize = offsetof<SlotRun>("other");

/** The quotient of a multiple of the size, up to 64 KiB, lies so many bits up. */
const RECIPROCAL_BITS: u32 = 16;


@inline
function slotRun(run: Run): SlotRun {
  return changetype<SlotRun>(run);
}

/** Which slots of a run are free that can be taken at once. */
@inline
export function readySlots(run: Run): u64 {
  return load<u64>(changetype<usize>(run), FREE_BITS);
}


@inline
function setReady(run: Run, bits: u64): void {
  store<u64>(changetype<usize>(run), bits, FREE_BITS);
}

/** Bits for so many slots, a half of them at most, or for a half of more. */
@inline
function allOf(slots: u32): u64 {
  return (<u64>-1) >>> -(<u64>slots);
}


@inline
function reciprocalOf(size: u32): u32 {
  return ((1 << RECIPROCAL_BITS) + size - 1) / size;
}

/** Has all slots of a run free, and none of them ever used. */
export function freeAll(run: Run): void {
  if (offsetof<SlotRun>() != RUN_STEP) ERROR("a Run has other bits than those of its slots");
  const s = slotRun(run);
  setReady(run, allOf(s.slots));
  s.other = s.slots > HALF ? allOf(s.slots - HALF) : 0;
  s.used = 0;
  s.otherUsed = 0;
  s.half = 0;
  s.reciprocal = reciprocalOf(s.size);
}

/** Takes one of the `ready` slots of a run, of `bytes`: the first from a place on that nobody can foresee. */
@inline
export function takeAny(run: Run, ready: u64, bytes: u32): usize {
  const s = slotRun(run);
  const start = s.start;
  const place = ((ready ^ (<u64>start)) * guards().random) >>> 58;
  const index = (ctz<u64>(rotr<u64>(ready, place)) + place) & (HALF - 1);
  const bit = (<u64>1) << index;
  setReady(run, ready ^ bit);
  s.used |= bit;
  return start + ((<usize>index) | s.half) * bytes;
}

/** Exchanges the halves of a run of whose first one no slot is free. Returns whether one is now. */
export function turnOver(run: Run): bool {
  const s = slotRun(run);
  const ready = readySlots(run);
  if (!s.other) return false;
  const used = s.used;
  setReady(run, s.other);
  s.used = s.otherUsed;
  s.other = ready;
  s.otherUsed = used;
  s.half ^= HALF;
  return true;
}

/** The number of the slot that an address lies in; for an address outside of the run anything. */
@inline
export function slotNumber(run: Run, slot: usize): u32 {
  return (<u32>((slot - run.start) * slotRun(run).reciprocal)) >>> RECIPROCAL_BITS;
}

/** Has a slot free. Returns whether it may be the only one now, or the last that was in use. */
@inline
export function give(run: Run, index: u32): bool {
  const s = slotRun(run);
  // `other` lies as far behind `free` as half of HALF.
  if (OTHER_FREE_BITS - FREE_BITS != HALF / 2) ERROR("the other half's bits lie elsewhere");
  const place = changetype<usize>(run) + (((index ^ s.half) & HALF) >>> 1);
  const before = load<u64>(place, FREE_BITS);
  const after = before | ((<u64>1) << index);
  store<u64>(place, after, FREE_BITS);
  return !before || after == allOf(s.slots);
}

/** Whether none of a run's slots is in use. */
@inline
export function isUnused(run: Run): bool {
  const s = slotRun(run);
  return readySlots(run) == allOf(s.slots) && (s.slots <= HALF || s.other == allOf(s.slots));
}

/** Whether what is known of a run's slots can be. */
export function isSoundAccount(run: Run): bool {
  const s = slotRun(run);
  const isLong = s.slots > HALF;
  return (
    s.reciprocal == reciprocalOf(s.size) &&
    (s.half == 0 || (isLong && s.half == HALF)) &&
    !(readySlots(run) & ~allOf(s.slots)) &&
    (isLong || !s.other)
  );
}

export function countFree(run: Run): u32 {
  return <u32>(popcnt<u64>(readySlots(run)) + popcnt<u64>(slotRun(run).other));
}


@inline
export function isListed(run: Run, index: u32): bool {
  const s = slotRun(run);
  return !!((((index ^ s.half) < HALF ? readySlots(run) : s.other) >>> index) & 1);
}


@inline
export function wasUsed(run: Run, index: u32): bool {
  const s = slotRun(run);
  return !!((((index ^ s.half) < HALF ? s.used : s.otherUsed) >>> index) & 1);
}
