// What the hardened build does when it finds a bug in the program: it traps in a function named for the bug, so that a
// stack trace shows which one it was. This file is an entry of its own, beside that of the C library: exported, each of
// these functions stays one.
//
// Before the trap, this function of the program is called, or else the weak one of src/on-fault.ts:
//
//     void rsbmalloc_on_fault(const char *message, void *pointer, size_t size);

import { guards } from "./config";
import { unlock } from "./lock";


@external("env", "rsbmalloc_on_fault")
declare function onFault(message: usize, pointer: usize, size: usize): void;

// The addresses of the messages. The build puts what follows "text of" into the object as a zero-terminated string.

@external("env", "text of double free")
declare const DOUBLE_FREE: usize;


@external("env", "text of free of a pointer that is no block's")
declare const INVALID_FREE: usize;


@external("env", "text of write past the end or before the start of a block")
declare const OVERFLOW: usize;


@external("env", "text of write to a block after free")
declare const USE_AFTER_FREE: usize;


@external("env", "text of free with another size than the block's")
declare const SIZE_MISMATCH: usize;


@external("env", "text of free with another alignment than the block's")
declare const ALIGNMENT_MISMATCH: usize;


@external("env", "text of heap corrupted")
declare const CORRUPTION: usize;

/** Stores what is known of the fault where a host can find it, calls the program's function, and traps. */
@inline
function trap(message: usize, block: usize, size: usize): void {
  const g = guards();
  g.faultMessage = message;
  g.faultBlock = block;
  g.faultSize = size;
  // The program may print something, and that may need another thread, which must not wait for the lock.
  unlock();
  onFault(message, block, size);
  unreachable();
}

// `block` is the pointer that the program passed, or the block that was found damaged; `size` is what it was allocated
// with, in bytes, or 0 if that is not known.

export function rsbmalloc_double_free(block: usize, size: usize): void {
  trap(DOUBLE_FREE, block, size);
}

export function rsbmalloc_invalid_free(block: usize, size: usize): void {
  trap(INVALID_FREE, block, size);
}

export function rsbmalloc_overflow(block: usize, size: usize): void {
  trap(OVERFLOW, block, size);
}

export function rsbmalloc_use_after_free(block: usize, size: usize): void {
  trap(USE_AFTER_FREE, block, size);
}

export function rsbmalloc_size_mismatch(block: usize, size: usize): void {
  trap(SIZE_MISMATCH, block, size);
}

export function rsbmalloc_alignment_mismatch(block: usize, size: usize): void {
  trap(ALIGNMENT_MISMATCH, block, size);
}

export function rsbmalloc_corruption(block: usize, size: usize): void {
  trap(CORRUPTION, block, size);
}
