// What the builds for threads use of the program's thread library. Weak references are to what a program may be without:
// pthread keys, and outside Emscripten any threads of libc. Their addresses, which are table indices, are 0 then.

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


@external("env", "pthread_self")
declare function self(): usize;

/** From wasi-libc: waits while the word at `address` is `value`. Every program that links its pthread_create has it. */
@external("env", "__wait")
declare function libcWait(address: usize, waiters: usize, value: i32, isPrivate: i32): void;


@external("env", "address of __wait")
declare const LIBC_WAIT: usize;


@external("env", "_emscripten_thread_supports_atomics_wait")
declare function supportsWait(): i32;


@external("env", "emscripten_num_logical_cores")
declare function logicalCores(): i32;

/** The address of the program's `const int rsbmalloc_cores`; 0 if it does not define that. */
@external("env", "rsbmalloc_cores")
declare const CORES: usize;

const DEFAULT_CORES: i32 = 4;

/**
 * Returns whether the calling thread may block. A browser's main thread and an audio worklet may not. Nor may any
 * thread of a program that makes its threads without libc, since it might be one of these.
 */
export function mayWait(): bool {
  return EMSCRIPTEN ? supportsWait() != 0 : LIBC_WAIT != 0;
}

/** Waits to be woken, unless the word at `address` is no longer `value`. */
export function waitWhile(address: usize, value: i32): void {
  if (EMSCRIPTEN) atomic.wait<i32>(address, value, -1);
  else libcWait(address, 0, value, 1);
}

/** Returns how many threads can run at once. */
@inline
export function cores(): i32 {
  if (EMSCRIPTEN) return logicalCores();
  return CORES ? load<i32>(CORES) : DEFAULT_CORES;
}

/**
 * Returns whether a key's destructor can be registered for the calling thread: the program must have keys anyway. Under
 * Emscripten, not for a worker that runs no thread at the moment, where JavaScript may still call malloc, nor for the
 * main thread: it never ends, and it allocates before the thread library is ready to set a key's value.
 */
export function endIsKnown(): bool {
  return KEY_CREATE != 0 && SET_SPECIFIC != 0 && !(EMSCRIPTEN && (mainRuntimeThread() || !self()));
}

/**
 * Creates a key and stores it at the address `key`. A thread with a value for it calls `destructor`, a table index,
 * when it ends. Returns whether there was a key left.
 */
export function createKey(key: usize, destructor: usize): bool {
  return !keyCreate(key, destructor);
}

/** Sets a value other than 0 for the calling thread, so that it calls the key's destructor when it ends. */
export function atThreadEnd(key: u32): void {
  setSpecific(key, 1);
}
