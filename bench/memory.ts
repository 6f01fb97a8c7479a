/** Replays workloads, checks every answer, and measures the peak of linear memory. */
import { readFileSync } from "node:fs";
import { reasonOf } from "../npm/errors.ts";
import { startDriver } from "./driver.ts";
import { linkDriver, layout, type Peer } from "./peers/peers.ts";
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
  try {
    const driver = startDriver(module);
    new Uint32Array(driver.memory.buffer, ops, workload.ops.length).set(workload.ops);
    const fault = driver.verify!(ops, ops + workload.ops.length * 4, blocks, data) as number;
    if (fault === 0) return driver.memory.buffer.byteLength - hole;
    const at = driver.failed_index!() as number;
    const [kind] = kindAndSlot(workload.ops[2 * at]!);
    return `${faults[fault]} (call ${at}, ${opNames[kind]})`;
  } catch (error) {
    return reasonOf(error);
  }
}
