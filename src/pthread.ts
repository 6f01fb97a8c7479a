// What the builds for threads use of the program's thread library. Emscripten always has one. Elsewhere its functions are
// weak references: their addresses, which are table indices, are 0 in a program without it.

import { EMSCRIPTEN } from "./config";


@external("env", "pthread_key_create")
declare function keyCreate(key: usize, destructor: usize): i32;


@external("env", "address of pthread_key_create")
declare const KEY_CREATE: usize;


@external("env", "pthread_setspecific")
declare function setSpecific(key: u32, value: usize): i32;


@external("env", "address of pthread_setspecific")
declare const SET_SPECIFIC: usize;


@external("env", "emscripten_is_main_runtime_thread")
declare function mainRuntimeThread(): i32;

/** Of wasi-libc: waits while the word at `address` is `value`. Every program that links its pthread_create has it. */
@external("env", "__wait")
declare function libcWait(address: usize, waiters: usize, value: i32, isPrivate: i32): void;


@external("env", "address of __wait")
declare const LIBC_WAIT: usize;


@external("env", "_emscripten_thread_supports_atomics_wait")
declare function supportsWait(): i32;


@external("env", "emscripten_num_logical_cores")
declare function logicalCores(): i32;

/** A program's own `const int rsbmalloc_cores`; 0 in one that has none. */
@external("env", "rsbmalloc_cores")
declare const CORES: usize;

const DEFAULT_CORES: i32 = 4;

/**
 * Whether the calling thread may wait: not in a browser's main thread, nor in an audio worklet, nor in a program that made its
 * threads without libc, as it might run there.
 */
export function mayWait(): bool {
  return EMSCRIPTEN ? supportsWait() != 0 : LIBC_WAIT != 0;
}

/** Waits until woken, if the word at `address` is still `value`. */
export function waitWhile(address: usize, value: i32): void {
  if (EMSCRIPTEN) atomic.wait<i32>(address, value, -1);
  else libcWait(address, 0, value, 1);
}

/** How many threads can run at once. */
@inline
export function cores(): i32 {
  if (EMSCRIPTEN) return logicalCores();
  return CORES ? load<i32>(CORES) : DEFAULT_CORES;
}

/**
 * Whether the calling thread's end can be learnt of. Under Emscripten the main thread never ends, and it allocates before
 * the thread library is ready for it.
 */
export function endIsKnown(): bool {
  return EMSCRIPTEN ? !mainRuntimeThread() : KEY_CREATE != 0 && SET_SPECIFIC != 0;
}

/** Stores a key at `key` for values whose threads end with a call of `destructor`. Returns whether it could. */
export function createKey(key: usize, destructor: usize): bool {
  return !keyCreate(key, destructor);
}

/** Gives the calling thread a value that is not 0, so that it ends with a call of the key's destructor. */
export function atThreadEnd(key: u32): void {
  setSpecific(key, 1);
}
