/** The heaps, empty or used before, that a workload is replayed on. */
import { random } from "./random.ts";
import { Op, operation, type Workload } from "./workload.ts";

/**
 * Number of heaps that a workload's peaks and instruction counts are averaged over. What a program did earlier decides
 * where runs lie, and chance decides which block is in the way of another: the peaks of one workload differ by a tenth
 * and more.
 */
const HEAPS = 12;
const EARLIER_BLOCKS = 12;

/** A workload with what comes before it: as many calls as `earlier` says. */
interface HeapedWorkload {
  readonly workload: Workload;
  readonly earlier: number;
}

/** Returns a workload for each of several heaps: the first is empty, the others have a few blocks and gaps. */
export function onHeaps(workload: Workload): HeapedWorkload[] {
  return Array.from({ length: HEAPS }, (_, heap) =>
    heap === 0 ? { workload, earlier: 0 } : onUsedHeap(heap, workload),
  );
}

/** The earlier blocks have random sizes, which depend on `seed` alone. */
function onUsedHeap(seed: number, workload: Workload): HeapedWorkload {
  const rng = random(seed);
  const slots = Array.from({ length: EARLIER_BLOCKS }, (_, index) => workload.slots + index);
  const made = slots.flatMap((slot) => [operation(Op.malloc, slot), rng.between(1, 2 ** rng.between(4, 11))]);
  const freed = slots.filter(() => rng.chance(0.5)).flatMap((slot) => [operation(Op.free, slot), 0]);
  const before = [...made, ...freed];
  const ops = new Uint32Array(before.length + workload.ops.length);
  ops.set(before);
  ops.set(workload.ops, before.length);
  return {
    workload: { ...workload, ops, slots: workload.slots + EARLIER_BLOCKS },
    earlier: before.length / 2,
  };
}
