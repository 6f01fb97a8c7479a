// Batches: chains of free slots of a bin that pass between threads whole, without the lock.
//
// A bin has some stacks of them. A thread puts a batch on one and takes it from there, with slots that its core still has in
// its own cache, as long as there are any; only then from another one. The second word of a batch's first slot links it to
// the next batch:
//
//     head of a stack --> | next slot | next batch | --> | next slot | next batch | --> 0
//                               |                              |
//                               v                              v
//                         | next slot |                  | next slot | --> 0
//
// The head is a double word that is only ever changed as a whole: the first batch's address below, and above it how many
// were ever put there. `takeBatch` reads the link of a batch that another thread may take at the same time, and write
// what it likes to. Its compare-and-exchange then fails: either another batch is the first now, or the same one was put
// there again, and the count has changed. It would have to change by 2^32 in between not to be seen.
//
// Orderings. All of these instructions are sequentially consistent: wasm has no weaker ones. What a thread wrote to a
// batch before it put it there is seen by the one that takes it. wasi-tests/model/batches.pml checks this.

import { BATCHES, BATCH_ROW, BATCH_STACKS, STATE } from "./config";

export const NEXT_BATCH: usize = 4;
const COUNT: u64 = 1 << 32;


@inline
function headOf(bin: u32, stack: u32): usize {
  return STATE + <usize>(stack & (BATCH_STACKS - 1)) * BATCH_ROW + ((<usize>bin) << 3);
}

/** Puts a batch, whose slots have two words at least, on one of its bin's stacks: any number names one. */
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
 * Takes a batch off a stack of its bin, or else off another one; 0 if there is none. One that another thread puts on a stack just
 * after that was looked at is missed: then the heap is asked, as if there were none.
 */
export function takeBatch(bin: u32, stack: u32): usize {
  for (let i: u32 = 0; i < BATCH_STACKS; ++i) {
    const batch = pop(headOf(bin, stack + i));
    if (batch) return batch;
  }
  return 0;
}

/** Takes the first batch of a stack; 0 if there is none. */
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
