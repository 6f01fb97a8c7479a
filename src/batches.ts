// Batches: linked lists of free slots of a bin that pass between threads as a whole, without the lock.
//
// Each bin has BATCH_STACKS stacks of them. A thread pushes batches onto its own stack and pops them from there, since
// its core still has their slots in its cache; only if that stack is empty does it try the others. The second word of a
// batch's first slot links it to the next batch:
//
//     head of a stack --> | next slot | next batch | --> | next slot | next batch | --> 0
//                               |                              |
//                               v                              v
//                         | next slot |                  | next slot | --> 0
//
// The head is a double word that only changes as a whole: its low half is the address of the first batch, its high half
// counts how many were ever pushed, against ABA. `pop` may read the link of a batch that another thread pops at the
// same time and then overwrites. In that case its CAS fails: either another batch is the first by now, or the same one
// was pushed again and the count has changed. Only exactly 2^32 pushes in between would go unnoticed.
//
// Memory ordering. Wasm atomics are all sequentially consistent. So whatever a thread wrote to a batch before it pushed
// it is visible to the thread that pops it. wasi-tests/model/batches.pml checks this.

import { BATCHES, BATCH_ROW, BATCH_STACKS, STATE } from "./config";

/** The offset of the link to the next batch in a batch's first slot. */
export const NEXT_BATCH: usize = 4;
/** One push in the count of a head. */
const COUNT: u64 = 1 << 32;


@inline
function headOf(bin: u32, stack: u32): usize {
  return STATE + <usize>(stack & (BATCH_STACKS - 1)) * BATCH_ROW + ((<usize>bin) << 3);
}

/** Pushes a batch, whose slots have at least two words, onto one of its bin's stacks. `stack` may be any number. */
export function putBatch(bin: u32, stack: u32, batch: usize): void {
  const at = headOf(bin, stack);
  let head = atomic.load<u64>(at, BATCHES);
  while (true) {
    store<u32>(batch, <u32>head, NEXT_BATCH);
    const seen = atomic.cmpxchg<u64>(at, head, ((head & -COUNT) + COUNT) | batch, BATCHES);
    if (seen == head) return;
    head = seen;
  }
}

/**
 * Pops a batch off a stack of its bin, or else off any other of them; returns 0 if all are empty. A batch that another
 * thread pushes onto a stack just after it was tried is missed, as if it had come later: the caller turns to the heap.
 */
export function takeBatch(bin: u32, stack: u32): usize {
  for (let i: u32 = 0; i < BATCH_STACKS; ++i) {
    const batch = pop(headOf(bin, stack + i));
    if (batch) return batch;
  }
  return 0;
}

/** Pops the first batch off the stack whose head is at `at`; returns 0 if it is empty. */
function pop(at: usize): usize {
  let head = atomic.load<u64>(at, BATCHES);
  while (<u32>head) {
    const batch = <usize>head;
    const seen = atomic.cmpxchg<u64>(at, head, (head & -COUNT) | load<u32>(batch, NEXT_BATCH), BATCHES);
    if (seen == head) return batch;
    head = seen;
  }
  return 0;
}
