import { readFileSync } from "node:fs";
import { linkDriver, layout, type Peer } from "./peers/peers.ts";
import { messageOf } from "./output.ts";
import { wasiStub } from "./wasi-stub.ts";
import { opNames, type Workload } from "./workloads/workload.ts";

/** The faults of bench/c/verify.c, by number. */
const faults = [
  "",
  "gave NULL",
  "gave a misaligned block",
  "gave a block outside its memory",
  "gave memory that is not zero",
  "two blocks overlap, or a block's contents changed",
  "lost the block's contents",
];

const BYTES_PER_SLOT = 12;

/**
 * By how many bytes programs differ in what lies before their heap. A little more or less of it moves what lies in pages,
 * and chance decides which block is in the way of another: peaks of one workload differ by a tenth and more.
 */
const SHIFTS = [0, 368, 736, 1104, 1472, 1840];

/** The mean of the peaks that `verify` finds in programs whose heaps start at different places; or what went wrong. */
export async function meanPeak(workload: Workload, peer: Peer): Promise<number | string> {
  let sum = 0;
  for (const shift of SHIFTS) {
    const peak = await verify(workload, peer, shift);
    if (typeof peak === "string") return peak;
    sum += peak;
  }
  return sum / SHIFTS.length;
}

/**
 * Replays a workload once on a fresh heap, with every answer and every block's contents checked. Returns the peak of
 * linear memory in bytes, static data and stack of a small program included; or what went wrong.
 */
export async function verify(workload: Workload, peer: Peer, shift = 0): Promise<number | string> {
  const place = layout(workload.ops.length, workload.slots, BYTES_PER_SLOT, shift);
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
    return `${faults[fault]} (call ${at}, ${opNames[workload.ops[2 * at]! & 7]})`;
  } catch (error) {
    return messageOf(error);
  }
}
