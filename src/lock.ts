// The lock of the builds for threads: one for the whole heap, held for no longer than it takes to move a batch of
// slots or to cut a page run. In other builds these functions are nothing.
//
// The lock is a word:
//
//     0 FREE --lock--> 1 HELD --another waits--> 2 CONTENDED
//
// `unlock` always leaves FREE behind, and wakes a thread if it was CONTENDED. A thread that has waited takes the lock as
// CONTENDED, whether or not others still wait, so that none of them is forgotten: wasi-tests/model/lock.pml checks it.
//
// Orderings. All of these instructions are sequentially consistent: wasm has no weaker ones. What a thread wrote before
// its `unlock` is therefore seen by the next that locks, and all that the lock guards is read and written plainly.
//
// A thread that may not wait (src/pthread.ts tells) spins until it has the lock. Those who hold it never call anyone who
// could wait for such a thread: growing memory, or a look at the whole heap, is the longest they do.

import { LOCK, LOCKED, STATE } from "./config";
import { mayWait, waitWhile } from "./pthread";

const FREE: i32 = 0;
const HELD: i32 = 1;
const CONTENDED: i32 = 2;

/** How often a thread looks at the lock before it waits: for about as long as most hold it. */
const SPINS: u32 = 200;

export function lock(): void {
  lockHere();
}

export function unlock(): void {
  unlockHere();
}

/** The same where a call would be felt. */
@inline
export function lockHere(): void {
  if (LOCKED && atomic.cmpxchg<i32>(STATE, FREE, HELD, LOCK) != FREE) lockSlow();
}


@inline
export function unlockHere(): void {
  if (LOCKED && atomic.xchg<i32>(STATE, FREE, LOCK) == CONTENDED) wake();
}

/**
 * Spins, then waits where that is allowed. Nothing that the loop around the wait needs is in a local variable: V8's
 * baseline code for the instruction spoils them, in Node 20 at least.
 */
function lockSlow(): void {
  const step: u32 = mayWait() ? 1 : 0;
  let spins = SPINS;
  while (spins) {
    // Reads leave the lock's cache line with its holder.
    if (atomic.load<i32>(STATE, LOCK) == FREE && atomic.cmpxchg<i32>(STATE, FREE, HELD, LOCK) == FREE) return;
    spins -= step;
  }
  while (atomic.xchg<i32>(STATE, CONTENDED, LOCK) != FREE) waitWhile(STATE + LOCK, CONTENDED);
}

/** Ends the program. Until its host knows, nobody is to wait for the lock: not the thread that is to tell the host, say. */
@inline
export function trapUnlocked(): void {
  unlock();
  unreachable();
}

function wake(): void {
  atomic.notify(STATE + LOCK, 1);
}
