// Batches: chains of free slots of a bin that pass between threads whole, without the lock.
//
// A bin has a stack of them. The second word of a batch's first slot links it to the next batch:
//
//     head of the bin --> | next slot | next batch | --> | next slot | next batch | --> 0
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

import { BATCHES, STATE } from "./config";

export const NEXT_BATCH: usize = 4;
const COUNT: u64 = 1 << 32;


@inline
function headOf(bin: u32): usize {
  return STATE + ((<usize>bin) << 3);
}

/** Puts a batch, whose slots have two words at least, on its bin's stack. */
export function putBatch(bin: u32, batch: usize): void {
  const at = headOf(bin);
  let head = atomic.load<u64>(at, BATCHES);
  while (true) {
    store<u32>(batch, <u32>head, NEXT_BATCH);
    const seen = atomic.cmpxchg<u64>(at, head, ((head & -COUNT) + COUNT) | batch, BATCHES);
    if (seen == head) return;
    head = seen;
  }
}

/** Takes a batch off its bin's stack; 0 if there is none. */
export function takeBatch(bin: u32): usize {
  const at = headOf(bin);
  let head = atomic.load<u64>(at, BATCHES);
  while (<u32>head) {
    const batch = <usize>head;
    const seen = atomic.cmpxchg<u64>(at, head, (head & -COUNT) | load<u32>(batch, NEXT_BATCH), BATCHES);
    if (seen == head) return batch;
    head = seen;
  }
  return 0;
}
