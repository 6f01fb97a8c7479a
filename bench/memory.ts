/** Replays workloads, checks every answer, and measures the peak of linear memory. */
import { readFileSync } from "node:fs";
import { reasonOf } from "../npm/errors.ts";
import { linkDriver, layout, type Peer } from "./peers/peers.ts";
import { wasiStub } from "./wasi-stub.ts";
import { onHeaps } from "./workloads/heaps.ts";
import { kindAndSlot, opNames, type Workload } from "./workloads/workload.ts";

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

/** Returns the mean of the peaks that `verify` measures on several heaps, or what went wrong. */
export async function meanPeak(workload: Workload, peer: Peer): Promise<number | string> {
  const heaps = onHeaps(workload);
  let sum = 0;
  for (const heap of heaps) {
    const peak = await verify(heap.workload, peer);
    if (typeof peak === "string") return peak;
    sum += peak;
  }
  return sum / heaps.length;
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
