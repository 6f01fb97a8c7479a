// What the libraries for threads have besides the C library's functions. An entry, like src/index.ts.

import { CACHED } from "./config";
import { endThread } from "./caches";

export * from "./index";

/** The calling thread will not allocate any more: its cache goes to another. Nothing where there are no caches. */
export function thread_end(): void {
  if (CACHED) endThread();
}

/** The same as a pthread key's destructor. */
export function thread_destructor(value: usize): void {
  if (CACHED) endThread();
}
