import { readFileSync } from "node:fs";
import { reasonOf } from "../npm/errors.ts";
import { linkDriver, layout, type Peer } from "./peers/peers.ts";
import { wasiStub } from "./wasi-stub.ts";
import { random, type Random } from "./workloads/random.ts";
import { kindAndSlot, Op, operation, opNames, type Workload } from "./workloads/workload.ts";

/** Descriptions of the faults of bench/c/verify.c. */
const faults = [
  "",
  "returned NULL",
  "returned a misaligned block",
  "returned a block outside memory",
  "returned memory that is not zero",
  "blocks overlap, or a block's contents have changed",
  "lost the block's contents",
];

const BYTES_PER_SLOT = 12;

/**
 * Number of heaps whose peaks are averaged. What a program did earlier decides where runs lie, and chance decides which
 * block is in the way of another: the peaks of one workload differ by a tenth and more.
 */
const HEAPS = 12;
const EARLIER_BLOCKS = 12;

/** Returns the mean of the peaks that `verify` measures on several heaps, the first of them empty; or what went wrong. */
export async function meanPeak(workload: Workload, peer: Peer): Promise<number | string> {
  let sum = 0;
  for (let heap = 0; heap < HEAPS; heap++) {
    const peak = await verify(heap === 0 ? workload : onUsedHeap(random(heap), workload), peer);
    if (typeof peak === "string") return peak;
    sum += peak;
  }
  return sum / HEAPS;
}

/** Returns the workload for a heap with earlier blocks, of random sizes, and gaps between them. */
function onUsedHeap(rng: Random, workload: Workload): Workload {
  const slots = Array.from({ length: EARLIER_BLOCKS }, (_, index) => workload.slots + index);
  const earlier = slots.flatMap((slot) => [
    operation(Op.malloc, slot),
    rng.between(1, 2 ** rng.between(4, 11)),
  ]);
  const freed = slots.filter(() => rng.chance(0.5)).flatMap((slot) => [operation(Op.free, slot), 0]);
  const ops = new Uint32Array(earlier.length + freed.length + workload.ops.length);
  ops.set([...earlier, ...freed]);
  ops.set(workload.ops, earlier.length + freed.length);
  return { ...workload, ops, slots: workload.slots + EARLIER_BLOCKS };
}

/**
 * Replays a workload once on a fresh heap, and checks every result and the contents of every block. Returns the peak of
 * linear memory in bytes, including the data and stack of a small program; or what went wrong.
 */
export async function verify(workload: Workload, peer: Peer): Promise<number | string> {
  const place = layout(workload.ops.length, workload.slots, BYTES_PER_SLOT);
  const { ops, blocks, hole, data } = place;
  const module = new WebAssembly.Module(readFileSync(await linkDriver(["verify"], peer, place)));
  let memory: WebAssembly.Memory;
  const exports = new WebAssembly.Instance(
    module,
    wasiStub(module, () => memory),
  ).exports as Record<string, CallableFunction> & { memory: WebAssembly.Memory };
  memory = exports.memory;
  try {
    exports._initialize?.();
    new Uint32Array(memory.buffer, ops, workload.ops.length).set(workload.ops);
    const fault = exports.verify!(ops, ops + workload.ops.length * 4, blocks, data) as number;
    if (fault === 0) return memory.buffer.byteLength - hole;
    const at = exports.failed_index!() as number;
    const [kind] = kindAndSlot(workload.ops[2 * at]!);
    return `${faults[fault]} (call ${at}, ${opNames[kind]})`;
  } catch (error) {
    return reasonOf(error);
  }
}
