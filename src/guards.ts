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
//              |  END  | mark  |    size     | GUARD |                | next       | next    |
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
const END: u8 = 0xd9;
export const TRAILER_SIZE: u32 = 4;

const SIZE_BITS: u32 = 14;
const SIZE_MASK: u32 = (1 << SIZE_BITS) - 1;

/** The bytes of a trailer that are the same in all slots. A trailer is looked at with GUARD on top, where `contents` has 0. */
const FIXED: u32 = ((<u32>GUARD) << 24) | ((<u32>END) << 16);

/** Contents of a free slot's trailer: size 0, and whether it ever was a block. */
export const NEVER_USED: u32 = 0;
export const FREED: u32 = 1 << SIZE_BITS;
/** Contents of an aligned block's trailer, beside its size. */
export const ALIGNED: u32 = 1 << SIZE_BITS;

/** 2^64 divided by the golden ratio: it spreads addresses over all bits. */
const SPREAD: u64 = 0x9e3779b97f4a7c15;

/** Up to here a loop over words is faster than the engine's `memory.fill`, in bytes. */
const WORDWISE_MAX: usize = 256;

/** What a slot's link is exclusive-ored with, and its trailer in part. */
@inline
export function tagOf(slot: usize): u64 {
  return guards().secret ^ (<u64>slot * SPREAD);
}

/** A trailer's contents are exclusive-ored with this. */
@inline
function trailerTag(tag: u64): u32 {
  return (<u32>(tag >>> 48)) | FIXED;
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
export function guardSlot(block: usize, bytes: u32, size: usize, alignment: u32, tag: u64): void {
  store<u8>(block + size, GUARD);
  if (alignment) store<u8>(block + bytes - TRAILER_SIZE - 1, <u8>alignment);
  setTrailer(block, bytes, (<u32>size) | (alignment ? ALIGNED : 0), tag);
}

/** Writes the trailer at the end of a slot of `bytes`. */
@inline
export function setTrailer(slot: usize, bytes: u32, contents: u32, tag: u64): void {
  store<u32>(slot + bytes - TRAILER_SIZE, rotl<u32>(contents ^ trailerTag(tag), 8));
}

/** What a slot's trailer says; `isBroken` tells whether it is something that `setTrailer` writes. */
@inline
export function trailerOf(slot: usize, bytes: u32, tag: u64): u32 {
  return rotr<u32>(load<u32>(slot + bytes - TRAILER_SIZE), 8) ^ trailerTag(tag);
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
  return contents - 1 < bytes - TRAILER_SIZE;
}

/** Whether a block in a slot of `bytes`, whose trailer has `contents`, ends with its guard and zeros. */
@inline
export function isGuarded(block: usize, contents: u32, bytes: u32): bool {
  const size = sizeIn(contents);
  // Then the guard is the trailer's, which `trailerOf` has seen.
  if (size == bytes - TRAILER_SIZE) return true;
  if (contents & ALIGNED) return isGuardedAligned(block, size, block + bytes - TRAILER_SIZE);
  let at = block + (size & ~7);
  const last = block + bytes - 8;
  const shift = ((<u64>size) & 7) << 3;
  if (at == last) return <u32>((load<u64>(at) & 0xffffffff) >>> shift) == GUARD;
  let bits = (load<u64>(at) >>> shift) ^ GUARD;
  while ((at += 8) < last) bits |= load<u64>(at);
  return !(bits | load<u32>(last));
}

/** The same of a block of `malloc`, but only of the eight bytes behind it, or as many as there are before the trailer. */
@inline
export function endsWell(block: usize, size: u32, bytes: u32): bool {
  const at = min<u32>(size, bytes - TRAILER_SIZE - 8);
  const behind = load<u64>(block + at, 0, 1) >>> ((<u64>(size - at)) << 3);
  return !!(u32(behind == GUARD) | u32(size == bytes - TRAILER_SIZE));
}

/** The same where the byte before the trailer has the alignment, at which the block lies. */
function isGuardedAligned(block: usize, size: usize, trailer: usize): bool {
  let bits = load<u8>(block + size) ^ GUARD;
  for (let at = block + size + 1; at < trailer - 1; ++at) bits |= load<u8>(at);
  const log2 = load<u8>(trailer - 1);
  return !bits && log2 - 1 < 31 && !(block & ((1 << log2) - 1));
}

/** Whether a listed slot of `bytes`, a multiple of 16, has a sound link and trailer, and is zero in between. */
@inline
export function isListed(slot: usize, bytes: u32, tag: u64): bool {
  return !(brokenLink(load<u64>(slot) ^ tag) | brokenRest(slot, bytes, tag));
}

/** The same of a free slot that may be in quarantine. */
@inline
export function isFree(slot: usize, bytes: u32, tag: u64): bool {
  const link = load<u64>(slot);
  return !((link ? brokenLink(link ^ tag) : 0) | brokenRest(slot, bytes, tag));
}

/** Not 0 if a link without its tag is not what `setLink` writes. */
@inline
function brokenLink(link: u64): u64 {
  return link ^ rotl<u64>(link, 32);
}

/** Not 0 if a free slot is not what it should be behind its link. */
@inline
function brokenRest(slot: usize, bytes: u32, tag: u64): u64 {
  const end = slot + bytes - 8;
  const trailer = (<u64>rotl<u32>(trailerTag(tag), 8)) << 32;
  const last = (load<u64>(end) ^ trailer) & ~((<u64>FREED) << 40);
  return last | u64(v128.any_true(bitsOf(slot + 8, end)));
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

/** Zeroes `bytes` from the start of a slot, rounded up to 8: no more than `endsWell` has looked at. */
@inline
export function wipe(slot: usize, bytes: usize): void {
  if (bytes > WORDWISE_MAX) {
    fillMemory(slot, 0, bytes);
    return;
  }
  const end = slot + ((bytes + 7) & ~15);
  if ((bytes + 7) & 8) store<u64>(end, 0);
  let at = slot;
  if ((end - at) & 16) {
    wipe16(at);
    at += 16;
  }
  if ((end - at) & 32) {
    wipe16(at);
    wipe16(at + 16);
    at += 32;
  }
  for (; at < end; at += 64) {
    wipe16(at);
    wipe16(at + 16);
    wipe16(at + 32);
    wipe16(at + 48);
  }
}


@inline
function wipe16(at: usize): void {
  v128.store(at, v128.splat<u64>(0));
}

// Links of free slots.

@inline
export function setLink(slot: usize, next: usize, tag: u64): void {
  store<u64>(slot, (<u64>next * 0x100000001) ^ tag);
}

/** The slot after this one, 0 at the list's end. What it says of a link that `setLink` did not write is anything. */
@inline
export function linkOf(slot: usize, tag: u64): usize {
  return <usize>(load<u64>(slot) ^ tag);
}

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
