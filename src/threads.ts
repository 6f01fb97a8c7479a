// What the libraries for threads export besides the C library's functions. An entry, like src/index.ts.

import { CACHED } from "./config";
import { endThread } from "./caches";

export * from "./index";

/**
 * Hands on the cache of the calling thread, which will not allocate any more. Does nothing in builds without caches.
 * libc calls it at a thread's end: cabi/names.ts.
 */
export function thread_end(): void {
  if (CACHED) endThread();
}

/** `thread_end`, as the destructor of a pthread key. */
export function thread_destructor(value: usize): void {
  if (CACHED) endThread();
}
