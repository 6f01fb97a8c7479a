// Which slots of a run are free, in the hardened build. The bitmaps are in the Run, not in the slots, where the program
// could overwrite them: free slots hold nothing but zeros.
//
//     Run    | free | ... as everywhere ... | other | used | otherUsed | half | reciprocal |
//
// `free` has a bit for each free slot, `used` one for each slot that has ever held a block. They cover up to 64 slots.
// Runs of the smallest slots have twice as many: then `free` and `used` cover the half that slots are taken from, and
// `other` and `otherUsed` the other one. The half that slots are taken from has no free slot only if the other one has
// none either. A ring's sentinel looks like a run without free slots.

import { PAGE, RUN_STEP, guards } from "./config";
import { Run } from "./pages";

const HALF: u32 = 64;

/** The 64-bit `free` is where other builds have `free` and `event`. */
@unmanaged
class SlotRun extends Run {
  other: u64;
  used: u64;
  otherUsed: u64;
  /** The number of the first slot that `free` and `used` cover: 0 or HALF. */
  half: u32;
  /** Multiplied by an offset in the run and shifted by RECIPROCAL_BITS, gives a slot's number. */
  reciprocal: u32;
}

/** Offsets in a Run; also for tools that inspect the heap from outside. */
export const FREE_BITS: usize = offsetof<Run>("free");
export const OTHER_FREE_BITS: usize = offsetof<SlotRun>("other");

/**
 * How many bits the product with a reciprocal is shifted to give the quotient. That is exact for multiples of the slot
 * size up to 64 KiB.
 */
const RECIPROCAL_BITS: u32 = 16;


@inline
function slotRun(run: Run): SlotRun {
  return changetype<SlotRun>(run);
}

/** Returns the bitmap of the free slots of a run, in the half that slots are taken from. */
@inline
export function readySlots(run: Run): u64 {
  return load<u64>(changetype<usize>(run), FREE_BITS);
}


@inline
function setReady(run: Run, bits: u64): void {
  store<u64>(changetype<usize>(run), bits, FREE_BITS);
}

/** Returns a bitmap of `slots` free slots, at most HALF, or of one half of them if there are 2 * HALF. */
@inline
function allOf(slots: u32): u64 {
  return (<u64>-1) >>> -(<u64>slots);
}


@inline
function reciprocalOf(size: u32): u32 {
  return ((1 << RECIPROCAL_BITS) + size - 1) / size;
}

/** Marks all slots of a run free, and none of them ever used. */
export function freeAll(run: Run): void {
  if (offsetof<SlotRun>() != RUN_STEP) ERROR("a SlotRun is not as long as a Run must be");
  // Runs of more than HALF slots are those of 16 bytes, one page each.
  if (PAGE != 2 * HALF * 16) ERROR("the slots of such a run are not two full halves");
  const s = slotRun(run);
  setReady(run, allOf(s.slots));
  s.other = s.slots > HALF ? allOf(s.slots - HALF) : 0;
  s.used = 0;
  s.otherUsed = 0;
  s.half = 0;
  s.reciprocal = reciprocalOf(s.size);
}

/** Takes one of the `ready` slots of a run, of `bytes` each: the first one at or after an unpredictable position. */
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

/**
 * Swaps the halves of a run that has no free slot left in the half that they are taken from. Returns whether there is
 * one now.
 */
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

/** Returns the number of the slot that starts at an address in the run; for any other address, an arbitrary number. */
@inline
export function slotNumber(run: Run, slot: usize): u32 {
  return (<u32>((slot - run.start) * slotRun(run).reciprocal)) >>> RECIPROCAL_BITS;
}

/** Marks a slot free. Returns true if it may be the run's only free slot, or may have been the last in use. */
@inline
export function give(run: Run, index: u32): bool {
  const s = slotRun(run);
  // The bit that tells the halves apart, halved, is the offset from `free` to `other`.
  if (OTHER_FREE_BITS - FREE_BITS != HALF / 2) ERROR("`other` is not HALF / 2 bytes after `free`");
  const place = changetype<usize>(run) + (((index ^ s.half) & HALF) >>> 1);
  const before = load<u64>(place, FREE_BITS);
  const after = before | ((<u64>1) << index);
  store<u64>(place, after, FREE_BITS);
  return !before || after == allOf(s.slots);
}

/** Returns whether none of a run's slots is in use. */
@inline
export function isUnused(run: Run): bool {
  const s = slotRun(run);
  return readySlots(run) == allOf(s.slots) && (s.slots <= HALF || s.other == allOf(s.slots));
}

/** Returns whether the bitmaps of a run are consistent. */
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
