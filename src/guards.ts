// The hardened build's slots: how it writes them, and how it knows one that was damaged.
//
// Memory that no block uses is zero, all of it. So freed blocks hold nothing of the program's, new ones nothing old, and a
// write to memory that is free shows.
//
//     block in use    | size bytes | GUARD | 0 ... 0 | trailer |
//                     |<-------------- slot ---------------->|
//     free slot       | 0 ...                              0 |
//
//     trailer, 3 bytes   23   16 15           14 13    0
//                       |  END  | is aligned  |  size  |
//
// `is aligned` tells whether an alignment was asked for: the byte before the trailer has log2 of it then. What stands
// before END is exclusive-ored with what depends on the slot's address and on a secret, so that a trailer can be neither
// forged nor moved. GUARD and END are the bytes that a write beyond a block meets first, from either side: one that
// differed from slot to slot would now and then be just what is written over it.

import { EMSCRIPTEN, Guards, guards } from "./config";
import { WORDWISE_MAX, fillMemory } from "./memory";

/** No letter, no digit, and nothing that programs like to fill memory with. */
export const GUARD: u8 = 0xb7;
const END: u8 = 0xd9;
const TRAILER_SIZE: u32 = 3;
/** A block has so many bytes less than its slot: a guard and the trailer lie behind it. */
export const TAIL_SIZE: u32 = 1 + TRAILER_SIZE;

const SIZE_BITS: u32 = 14;
const SIZE_MASK: u32 = (1 << SIZE_BITS) - 1;

/** Contents of an aligned block's trailer, beside its size. */
export const ALIGNED: u32 = 1 << SIZE_BITS;

/** The bits of a trailer that are not the same in all. */
const MARK_BITS: u32 = 16;

/** The bits of a slot's address that go into its trailer: slots are multiples of 16. */
const ADDRESS_MASK: usize = 0xfff0;

/** A trailer's contents are exclusive-ored with this. */
@inline
function tagOf(slot: usize): u32 {
  return guards().secret ^ ((<u32>slot) & ADDRESS_MASK);
}


@inline
export function sizeIn(contents: u32): usize {
  return contents & SIZE_MASK;
}

/** What a block of an alignment takes of its slot besides its size and its tail: a byte for the alignment. */
@inline
export function alignmentBytes(log2: u32): u32 {
  return u32(log2 != 0);
}

/** Where a slot's last word is, of which the trailer has all but the first byte. */
@inline
function lastWord(slot: usize, bytes: u32): usize {
  return slot + bytes - TAIL_SIZE;
}

/** log2 of the alignment that a block was asked for, 0 for a block of `malloc`. */
@inline
export function alignmentIn(contents: u32, block: usize, bytes: u32): u32 {
  return contents & ALIGNED ? load<u8>(lastWord(block, bytes)) : 0;
}

/** Marks the end of a block. `alignment` is its log2, 0 for a block of `malloc`. What lies before the trailer is zero. */
@inline
export function guardSlot(block: usize, bytes: u32, size: usize, alignment: u32): void {
  const contents = (<u32>size) | (alignment ? ALIGNED : 0);
  store<u32>(lastWord(block, bytes), ((contents ^ tagOf(block)) << 8) | alignment);
  store<u8>(block + size, GUARD);
}

/** What a block's trailer says; `isBroken` tells whether it is something that `guardSlot` writes. */
@inline
export function trailerOf(slot: usize, bytes: u32): u32 {
  return (load<u32>(lastWord(slot, bytes)) >>> 8) ^ tagOf(slot);
}

/** Whether a slot has no trailer: then it is free, unless someone wrote zeros. */
@inline
export function isBare(slot: usize, bytes: u32): bool {
  return !(load<u32>(lastWord(slot, bytes)) >>> 8);
}


@inline
export function isBroken(contents: u32): bool {
  return contents > (SIZE_MASK | ALIGNED);
}

/** Whether contents are those of a block in use in a slot of `bytes`. */
@inline
export function isUsed(contents: u32, bytes: u32): bool {
  return isPlain(contents & ~ALIGNED, bytes);
}

/** The same of a block of `malloc`. Then they are its size. */
@inline
export function isPlain(contents: u32, bytes: u32): bool {
  return contents - 1 < bytes - TAIL_SIZE;
}

/** Whether a block of `malloc` in a slot of `bytes` has a guard behind it, and zeros up to the trailer. */
@inline
export function endsWell(block: usize, size: u32, bytes: u32): bool {
  // The eight bytes before the trailer, and how many of them are the block's.
  const last = block + bytes - TRAILER_SIZE - 8;
  const own = size - (bytes - TRAILER_SIZE - 8);
  let bits = load<u64>(last, 0, 1);
  if (<i32>own >= 0) return bits >>> ((<u64>own) << 3) == GUARD;
  bits |= load<u64>(block + size, 0, 1) ^ GUARD;
  for (let at = block + size + 8; at < last; at += 8) bits |= load<u64>(at, 0, 1);
  return !bits;
}

/** Whether a slot holds any block, whose trailer has `contents`, and whether that ends so. */
@inline
export function isWhole(block: usize, contents: u32, bytes: u32): bool {
  if (!isUsed(contents, bytes)) return false;
  const size = <u32>sizeIn(contents);
  return contents & ALIGNED
    ? isGuardedAligned(block, size, lastWord(block, bytes))
    : endsWell(block, size, bytes);
}

/** The same where the byte at `end` has log2 of the alignment, at which the block lies. */
function isGuardedAligned(block: usize, size: usize, end: usize): bool {
  let bits = load<u8>(block + size) ^ GUARD;
  for (let at = block + size + 1; at < end; ++at) bits |= load<u8>(at);
  const log2 = load<u8>(end);
  return !bits && log2 - 1 < 31 && !(block & ((1 << log2) - 1));
}

/** What loads may count on: free memory is looked at from a double word on. Emscripten's SAFE_HEAP checks it. */
const WORD: usize = 8;

/** What is in memory from `start` to `end`, a multiple of 16 bytes, or-ed together. */
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

/** Whether memory from `start` to `end` is zero; `end` is at a double word. */
export function isZero(start: usize, end: usize): bool {
  for (; start < end && start & 7; ++start) if (load<u8>(start)) return false;
  if (start < end && (end - start) & 8) {
    if (load<u64>(start)) return false;
    start += 8;
  }
  return start >= end || !v128.any_true(bitsOf(start, end));
}

/** Whether a slot of `bytes`, a multiple of 16, is zero. */
@inline
export function isClean(slot: usize, bytes: u32): bool {
  // Both ends, which meet or are the same where the slot is short.
  const behind = slot + bytes - 64;
  let bits = v128.or(v128.load(slot, 0, WORD), v128.load(behind, 48, WORD));
  if (bytes > 32) {
    bits = v128.or(bits, v128.or(v128.load(slot, 16, WORD), v128.load(behind, 32, WORD)));
    if (bytes > 64) bits = v128.or(bits, bitsOf(slot + 32, behind + 32));
  }
  return !v128.any_true(bits);
}

/** Zeroes a slot of `bytes`, a multiple of 16. */
@inline
export function wipe(slot: usize, bytes: u32): void {
  const behind = slot + bytes - 64;
  v128.store(slot, v128.splat<u64>(0));
  v128.store(behind, v128.splat<u64>(0), 48);
  if (bytes > 32) {
    v128.store(slot, v128.splat<u64>(0), 16);
    v128.store(behind, v128.splat<u64>(0), 32);
    if (bytes > 64) wipeMiddle(slot + 32, behind + 32);
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

// What the order in which slots are handed out depends on, and what is written behind blocks.

@external("wasi_snapshot_preview1", "random_get")
declare function wasiRandom(buffer: usize, bytes: usize): i32;

/** Of Emscripten's libc. */
@external("env", "getentropy")
declare function getEntropy(buffer: usize, bytes: usize): i32;

/** Takes the secrets from the host. */
export function seed(): void {
  const g = guards();
  const place = changetype<usize>(g) + offsetof<Guards>("random");
  const bytes = offsetof<Guards>("secret") + sizeof<u32>() - offsetof<Guards>("random");
  if (EMSCRIPTEN) getEntropy(place, bytes);
  else wasiRandom(place, bytes);
  // Were it even, the first slots of a run might not count.
  g.random |= 1;
  g.secret = (g.secret & ((1 << MARK_BITS) - 1)) | ((<u32>END) << MARK_BITS);
}
