// The layout of slots in the hardened build: how they are written, and how damage to one is detected.
//
// All memory that no block uses is zero. So freed blocks keep no data of the program, new ones hold no stale data, and
// a write to free memory can be detected.
//
//     block in use    | size bytes | GUARD | 0 ... 0 | trailer |
//                     |<-------------- slot ---------------->|
//     free slot       | 0 ...                              0 |
//
//     trailer, 3 bytes   23   16 15           14 13    0
//                       |  END  | is aligned  |  size  |
//
// `is aligned` tells whether an alignment was requested; if so, the byte before the trailer is its log2. The low 16
// bits are XORed with the slot's address and a secret, so that a trailer can be neither forged nor moved to another
// slot. GUARD and END are the first bytes that an out-of-bounds write meets, from either side. They are constants: a
// byte that differed from slot to slot would now and then equal what is written over it.

import { EMSCRIPTEN, Guards, guards } from "./config";
import { WORDWISE_MAX, fillMemory } from "./memory";

/** Neither GUARD nor END is a letter, a digit, or a byte that programs usually fill memory with. */
export const GUARD: u8 = 0xb7;
const END: u8 = 0xd9;
const TRAILER_SIZE: u32 = 3;
/** The minimum number of bytes between a block's end and its slot's: a guard byte and the trailer. */
export const TAIL_SIZE: u32 = 1 + TRAILER_SIZE;

const SIZE_BITS: u32 = 14;
const SIZE_MASK: u32 = (1 << SIZE_BITS) - 1;

/** The bit of a trailer's contents that marks an aligned block; the others are its size. */
const ALIGNED: u32 = 1 << SIZE_BITS;

/** How many low bits of a trailer vary from slot to slot; the constant END is above them. */
const MARK_BITS: u32 = 16;

/** The bits of a slot's address that go into its trailer. The low four are 0 anyway: slots are multiples of 16. */
const ADDRESS_MASK: usize = 0xfff0;

/** Returns what the contents of a slot's trailer are XORed with. */
@inline
function tagOf(slot: usize): u32 {
  return guards().secret ^ ((<u32>slot) & ADDRESS_MASK);
}


@inline
export function sizeIn(contents: u32): usize {
  return contents & SIZE_MASK;
}

/** Returns how many bytes a block takes of its slot besides its size and its tail: one for the alignment, if any. */
@inline
export function alignmentBytes(log2: u32): u32 {
  return u32(log2 != 0);
}

/** Returns the address of a slot's last word: the trailer is all of it but the first byte. */
@inline
function lastWord(slot: usize, bytes: u32): usize {
  return slot + bytes - TAIL_SIZE;
}

/** Returns log2 of the alignment that a block was requested with, 0 for a block from `malloc`. */
@inline
export function alignmentIn(contents: u32, block: usize, bytes: u32): u32 {
  return contents & ALIGNED ? load<u8>(lastWord(block, bytes)) : 0;
}

/**
 * Writes the guard and the trailer of a block; everything between the two must be zero already. `alignment` is its
 * log2, 0 for a block from `malloc`.
 */
@inline
export function guardSlot(block: usize, bytes: u32, size: usize, alignment: u32): void {
  const contents = (<u32>size) | (alignment ? ALIGNED : 0);
  store<u32>(lastWord(block, bytes), ((contents ^ tagOf(block)) << 8) | alignment);
  store<u8>(block + size, GUARD);
}

/** Returns the contents of a slot's trailer. If they are `isBroken`, `guardSlot` did not write them. */
@inline
export function trailerOf(slot: usize, bytes: u32): u32 {
  return (load<u32>(lastWord(slot, bytes)) >>> 8) ^ tagOf(slot);
}

/** Returns whether a slot has no trailer: then it is free, unless the program overwrote the trailer with zeros. */
@inline
export function isBare(slot: usize, bytes: u32): bool {
  return !(load<u32>(lastWord(slot, bytes)) >>> 8);
}


@inline
export function isBroken(contents: u32): bool {
  return contents > (SIZE_MASK | ALIGNED);
}

/** Returns whether a trailer's contents are those of a block in use, in a slot of `bytes`. */
@inline
export function isUsed(contents: u32, bytes: u32): bool {
  return isPlain(contents & ~ALIGNED, bytes);
}

/** Returns whether a trailer's contents are those of a block from `malloc` in use. If so, they equal its size. */
@inline
export function isPlain(contents: u32, bytes: u32): bool {
  return contents - 1 < bytes - TAIL_SIZE;
}

/** Returns whether a block from `malloc` in a slot of `bytes` has a guard after it, then zeros up to the trailer. */
@inline
export function endsWell(block: usize, size: u32, bytes: u32): bool {
  // The last eight bytes before the trailer, and how many of them belong to the block.
  const last = block + bytes - TRAILER_SIZE - 8;
  const own = size - (bytes - TRAILER_SIZE - 8);
  let bits = load<u64>(last, 0, 1);
  if (<i32>own >= 0) return bits >>> ((<u64>own) << 3) == GUARD;
  bits |= load<u64>(block + size, 0, 1) ^ GUARD;
  for (let at = block + size + 8; at < last; at += 8) bits |= load<u64>(at, 0, 1);
  return !bits;
}

/** Returns whether a slot whose trailer has `contents` holds a block in use, aligned or not, with an intact end. */
@inline
export function isWhole(block: usize, contents: u32, bytes: u32): bool {
  if (!isUsed(contents, bytes)) return false;
  const size = <u32>sizeIn(contents);
  return contents & ALIGNED
    ? isGuardedAligned(block, size, lastWord(block, bytes))
    : endsWell(block, size, bytes);
}

/**
 * Returns whether a block has a guard after it, then zeros up to `end`, and at `end` the log2 of an alignment that the
 * block's address has.
 */
function isGuardedAligned(block: usize, size: usize, end: usize): bool {
  let bits = load<u8>(block + size) ^ GUARD;
  for (let at = block + size + 1; at < end; ++at) bits |= load<u8>(at);
  const log2 = load<u8>(end);
  return !bits && log2 - 1 < 31 && !(block & ((1 << log2) - 1));
}

/**
 * The alignment that vector loads declare: what is checked begins at a multiple of 8, not always of 16. Emscripten's
 * SAFE_HEAP traps for an address with less than the declared alignment.
 */
const WORD: usize = 8;

/** Returns the OR of all vectors in memory from `start` to `end`, which is a multiple of 16 bytes. */
@inline
function bitsOf(start: usize, end: usize): v128 {
  let bits = v128.splat<u64>(0);
  if ((end - start) & 16) {
    bits = v128.load(start, 0, WORD);
    start += 16;
  }
  if ((end - start) & 32) {
    bits = v128.or(bits, v128.or(v128.load(start, 0, WORD), v128.load(start, 16, WORD)));
    start += 32;
  }
  for (; start < end; start += 64) bits = v128.or(bits, bitsOf64(start));
  return bits;
}


@inline
function bitsOf64(at: usize): v128 {
  const first = v128.or(v128.load(at, 0, WORD), v128.load(at, 16, WORD));
  return v128.or(first, v128.or(v128.load(at, 32, WORD), v128.load(at, 48, WORD)));
}

/** Returns whether memory from `start` to `end` is zero; `end` is a multiple of 8. */
export function isZero(start: usize, end: usize): bool {
  for (; start < end && start & 7; ++start) if (load<u8>(start)) return false;
  if (start < end && (end - start) & 8) {
    if (load<u64>(start)) return false;
    start += 8;
  }
  return start >= end || !v128.any_true(bitsOf(start, end));
}

/** Returns whether a slot of `bytes`, a multiple of 16, is zero. */
@inline
export function isClean(slot: usize, bytes: u32): bool {
  // Check both ends, which touch or coincide in a short slot, then the middle.
  const last64 = slot + bytes - 64;
  let bits = v128.or(v128.load(slot, 0, WORD), v128.load(last64, 48, WORD));
  if (bytes > 32) {
    bits = v128.or(bits, v128.or(v128.load(slot, 16, WORD), v128.load(last64, 32, WORD)));
    if (bytes > 64) bits = v128.or(bits, bitsOf(slot + 32, last64 + 32));
  }
  return !v128.any_true(bits);
}

/** Zeroes a slot of `bytes`, a multiple of 16. */
@inline
export function wipe(slot: usize, bytes: u32): void {
  const last64 = slot + bytes - 64;
  v128.store(slot, v128.splat<u64>(0));
  v128.store(last64, v128.splat<u64>(0), 48);
  if (bytes > 32) {
    v128.store(slot, v128.splat<u64>(0), 16);
    v128.store(last64, v128.splat<u64>(0), 32);
    if (bytes > 64) wipeMiddle(slot + 32, last64 + 32);
  }
}


@inline
function wipeMiddle(start: usize, end: usize): void {
  if (end - start > WORDWISE_MAX) {
    fillMemory(start, 0, end - start);
    return;
  }
  for (; start < end; start += 32) {
    v128.store(start, v128.splat<u64>(0));
    v128.store(start, v128.splat<u64>(0), 16);
  }
}

// The random numbers that decide in which order slots are handed out, and that trailers are XORed with.

@external("wasi_snapshot_preview1", "random_get")
declare function wasiRandom(buffer: usize, bytes: usize): i32;

/** From Emscripten's libc. */
@external("env", "getentropy")
declare function getEntropy(buffer: usize, bytes: usize): i32;

/** Gets the random numbers from the host. */
export function seed(): void {
  const g = guards();
  const place = changetype<usize>(g) + offsetof<Guards>("random");
  const bytes = offsetof<Guards>("secret") + sizeof<u32>() - offsetof<Guards>("random");
  if (EMSCRIPTEN) getEntropy(place, bytes);
  else wasiRandom(place, bytes);
  // Multiplying by an even number would drop the highest bits of a run's bitmap; by 0, all of them.
  g.random |= 1;
  g.secret = (g.secret & ((1 << MARK_BITS) - 1)) | ((<u32>END) << MARK_BITS);
}
