// The lock of the builds for threads: a single one for the whole heap, usually held only to move a batch of slots or to
// cut a page run. In other builds these functions do nothing.
//
// The lock is a word:
//
//     0 FREE --lock--> 1 HELD --another thread waits--> 2 CONTENDED
//
// `unlock` always stores FREE, and wakes one thread if the lock was CONTENDED. A thread that has waited acquires the
// lock as CONTENDED, whether or not others still wait, so that no waiter is forgotten. wasi-tests/model/lock.pml checks
// this.
//
// Memory ordering. Wasm atomics are all sequentially consistent, so whatever a thread wrote before it released the lock
// is visible to the next one that acquires it. What the lock guards is read and written with plain loads and stores.
//
// A thread that may not block (`mayWait` in src/pthread.ts) spins until it gets the lock. That ends, because a thread
// that holds the lock never calls anything that could wait for such a thread. Growing memory and walking the whole heap
// are what it holds the lock for longest.

import { LOCK, LOCKED, STATE } from "./config";
import { mayWait, waitWhile } from "./pthread";

const FREE: i32 = 0;
const HELD: i32 = 1;
const CONTENDED: i32 = 2;

/** How often a thread tests the lock before it waits: that takes about as long as the lock is usually held. */
const SPINS: u32 = 200;

export function lock(): void {
  if (LOCKED && atomic.cmpxchg<i32>(STATE, FREE, HELD, LOCK) != FREE) lockSlow();
}

export function unlock(): void {
  if (LOCKED && atomic.xchg<i32>(STATE, FREE, LOCK) == CONTENDED) wake();
}

/**
 * Spins, then waits, if the thread may wait. The loop around the wait keeps nothing in local variables: V8's baseline
 * compiler generates code for `memory.atomic.wait32` that clobbers them, at least in Node 20.
 */
function lockSlow(): void {
  const step: u32 = mayWait() ? 1 : 0;
  let spins = SPINS;
  while (spins) {
    // Test before the CAS: a load does not take the cache line away from the lock's holder.
    if (atomic.load<i32>(STATE, LOCK) == FREE && atomic.cmpxchg<i32>(STATE, FREE, HELD, LOCK) == FREE) return;
    spins -= step;
  }
  while (atomic.xchg<i32>(STATE, CONTENDED, LOCK) != FREE) waitWhile(STATE + LOCK, CONTENDED);
}

/**
 * Traps, with the lock released: until the host ends the program, no thread may get stuck waiting for the lock, least
 * of all one that has to report the trap to the host.
 */
@inline
export function trapUnlocked(): void {
  unlock();
  unreachable();
}

function wake(): void {
  atomic.notify(STATE + LOCK, 1);
}
