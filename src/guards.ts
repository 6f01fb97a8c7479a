// The hardened build's slots: how it writes them, and how it knows one that was damaged.
//
// Memory that no block uses is zero, except for what is drawn here. So freed blocks hold nothing of the program's, new
// ones nothing old, and a write to memory that is free shows.
//
//     block in use    | size bytes | GUARD | 0 ... 0 | trailer |      the trailer's first byte is a GUARD too, and
//                     |<-------------- slot ---------------->|       may be the only one
//     listed slot     | link, 8 bytes | 0 ... 0     | trailer |
//     quarantined     | 0 ...                     0 | trailer |
//
//     trailer   31   24 23   22 21          8 7     0           link   63       32 31       0
//              |  END  | mark  |    size     | GUARD |                | not next   | next    |
//
// `size` is 0 in a slot that is free, and `mark` then tells whether it ever held a block. In a block it tells whether an
// alignment was asked for: the byte before the trailer has log2 of it. Both words are exclusive-ored with what depends on
// the slot's address and on a secret, so that neither can be forged or moved; but for GUARD and END, which are the bytes
// that a write beyond a block meets first, from either side. A byte that differed from slot to slot would now and then be
// just what is written over it.

import { EMSCRIPTEN, Guards, guards } from "./config";
import { fillMemory } from "./memory";

/** No letter, no digit, and nothing that programs like to fill memory with. */
export const GUARD: u8 = 0xb7;
const END: u32 = 0xd9;
export const TRAILER_SIZE: u32 = 4;

const SIZE_BITS: u32 = 14;
const SIZE_MASK: u32 = (1 << SIZE_BITS) - 1;
const CONTENTS_MASK: u32 = 0xffff;

/** The bytes of a trailer that are the same in all slots, and what they are. */
const FIXED_MASK: u32 = 0xff0000ff;
const FIXED: u32 = (END << 24) | GUARD;

/** Contents of a free slot's trailer: size 0, and whether it ever was a block. */
export const NEVER_USED: u32 = 0;
export const FREED: u32 = 1 << SIZE_BITS;
/** Contents of an aligned block's trailer, beside its size. */
const ALIGNED: u32 = 1 << SIZE_BITS;

/** 2^32 and 2^64 divided by the golden ratio: they spread addresses over all bits. */
const SPREAD: u32 = 0x9e3779b9;
const SPREAD_64: u64 = 0x9e3779b97f4a7c15;

/** Up to here a loop over words is faster than the engine's `memory.fill`, in bytes. */
const WORDWISE_MAX: usize = 128;


@inline
function tag(slot: usize): u32 {
  return (((<u32>slot) ^ (<u32>guards().secret)) * SPREAD) & ~FIXED_MASK;
}


@inline
export function sizeIn(contents: u32): usize {
  return contents & SIZE_MASK;
}

/** What a block of an alignment takes of its slot besides its size and the trailer: a GUARD of its own, and the alignment. */
@inline
export function alignmentBytes(log2: u32): u32 {
  return log2 ? 2 : 0;
}

/** log2 of the alignment that a block was asked for, 0 for a block of `malloc`. */
@inline
export function alignmentIn(contents: u32, block: usize, bytes: u32): u32 {
  return contents & ALIGNED ? load<u8>(block + bytes - TRAILER_SIZE - 1) : 0;
}

/** Marks the end of a block. What lies between its end and the trailer is zero. */
@inline
export function guardSlot(block: usize, bytes: u32, size: usize, alignment: u32): void {
  store<u8>(block + size, GUARD);
  if (alignment) store<u8>(block + bytes - TRAILER_SIZE - 1, <u8>alignment);
  setTrailer(block, bytes, (<u32>size) | (alignment ? ALIGNED : 0));
}

/** Writes the trailer at the end of a slot of `bytes`. */
@inline
export function setTrailer(slot: usize, bytes: u32, contents: u32): void {
  store<u32>(slot + bytes - TRAILER_SIZE, ((contents << 8) | FIXED) ^ tag(slot));
}

/** What a slot's trailer says; BROKEN if it is not what `setTrailer` writes. */
@inline
export function trailerOf(slot: usize, bytes: u32): u32 {
  const trailer = load<u32>(slot + bytes - TRAILER_SIZE) ^ tag(slot);
  return (trailer & FIXED_MASK) == FIXED ? (trailer >>> 8) & CONTENTS_MASK : BROKEN;
}

export const BROKEN: u32 = ~0;

/** Whether a block in a slot of `bytes`, whose trailer has `contents`, ends with its guard and zeros. */
@inline
export function isGuarded(block: usize, contents: u32, bytes: u32): bool {
  const size = sizeIn(contents);
  let at = block + (size & ~3);
  const trailer = block + bytes - TRAILER_SIZE;
  // Then the guard is the trailer's, which `trailerOf` has seen.
  if (at == trailer) return true;
  let bits = (load<u32>(at) >>> (((<u32>size) & 3) << 3)) ^ GUARD;
  if (contents & ALIGNED) return isGuardedAligned(block, size, trailer);
  while ((at += 4) < trailer) bits |= load<u32>(at);
  return !bits;
}

/** The same where the byte before the trailer has the alignment, at which the block lies. */
function isGuardedAligned(block: usize, size: usize, trailer: usize): bool {
  let bits = load<u8>(block + size) ^ GUARD;
  for (let at = block + size + 1; at < trailer - 1; ++at) bits |= load<u8>(at);
  const log2 = load<u8>(trailer - 1);
  return !bits && log2 - 1 < 31 && !(block & ((1 << log2) - 1));
}

/** Whether a free slot of `bytes`, a multiple of 16, is zero behind its link. */
@inline
export function isZeroSlot(slot: usize, bytes: u32): bool {
  const end = slot + bytes - 8;
  let bits = <u64>load<u32>(end);
  for (let at = slot + 8; at < end; at += 16) bits |= load<u64>(at) | load<u64>(at, 8);
  return !bits;
}

/** Whether memory from `start` to `end` is zero; `end` is at a double word. */
export function isZero(start: usize, end: usize): bool {
  for (; start < end && start & 7; ++start) if (load<u8>(start)) return false;
  let bits: u64 = 0;
  for (; start + 64 <= end && !bits; start += 64) {
    bits =
      load<u64>(start) |
      load<u64>(start, 8) |
      load<u64>(start, 16) |
      load<u64>(start, 24) |
      load<u64>(start, 32) |
      load<u64>(start, 40) |
      load<u64>(start, 48) |
      load<u64>(start, 56);
  }
  for (; start < end; start += 8) bits |= load<u64>(start);
  return !bits;
}

/** Zeroes `bytes` from the start of a slot, rounded up to 16. */
@inline
export function wipe(slot: usize, bytes: usize): void {
  if (bytes > WORDWISE_MAX) fillMemory(slot, 0, bytes);
  else {
    for (let i: usize = 0; i < bytes; i += 16) {
      store<u64>(slot + i, 0);
      store<u64>(slot + i, 0, 8);
    }
  }
}

// Links of free slots.

@inline
function linkTag(slot: usize): u64 {
  return guards().secret ^ (<u64>slot * SPREAD_64);
}


@inline
export function setLink(slot: usize, next: usize): void {
  store<u64>(slot, ((<u64>next) | ((<u64>~next) << 32)) ^ linkTag(slot));
}

/** The slot after this one, 0 at the list's end; BROKEN_LINK if `setLink` did not write it. */
@inline
export function linkOf(slot: usize): usize {
  const link = load<u64>(slot) ^ linkTag(slot);
  return <u32>link == ~(<u32>(link >>> 32)) ? <usize>link : BROKEN_LINK;
}

/** No slot is there. */
export const BROKEN_LINK: usize = 1;

// Random numbers: what slots are handed out in which order depends on.

@external("wasi_snapshot_preview1", "random_get")
declare function wasiRandom(buffer: usize, bytes: usize): i32;

/** Of Emscripten's libc. */
@external("env", "getentropy")
declare function getEntropy(buffer: usize, bytes: usize): i32;

/** Takes a secret and the first random number from the host. */
export function seed(): void {
  const g = guards();
  const secret = changetype<usize>(g) + offsetof<Guards>("secret");
  if (EMSCRIPTEN) getEntropy(secret, 16);
  else wasiRandom(secret, 16);
  // An odd one, so that it is never 0, which would mean that there is none yet.
  g.secret |= 1;
}

/** A number from 0 to `below` - 1. Knuth's generator of MMIX; its high bits are good. */
@inline
export function random(below: u32): u32 {
  const g = guards();
  g.random = g.random * 6364136223846793005 + 1442695040888963407;
  return <u32>(((g.random >>> 32) * <u64>below) >>> 32);
}
