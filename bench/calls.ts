/** Counts the instructions of each call to an allocator. */
import { readFileSync } from "node:fs";
import { startDriver } from "./driver.ts";
import { COUNTER, countInstructions } from "./instructions.ts";
import { layout, linkDriver, type Peer } from "./peers/peers.ts";
import { onHeaps } from "./workloads/heaps.ts";
import { Op, type Workload } from "./workloads/workload.ts";

/** The wasm instructions that the allocator executes for each call. */
export interface CallCosts {
  /** The mean of all calls, on all heaps. */
  readonly mean: number;
  /** The least of the slowest 0.1 % of calls, on the mean of all heaps. */
  readonly slowest: number;
  /** The most of any malloc, aligned allocation or free. The work of calloc and realloc grows with the block's size. */
  readonly worst: number;
}

/** Replays a workload on several heaps and counts the instructions of each call. Throws if the allocator crashes. */
export async function countCalls(workload: Workload, peer: Peer): Promise<CallCosts> {
  let mean = 0;
  let slowest = 0;
  let worst = 0;
  const heaps = onHeaps(workload);
  for (const heap of heaps) {
    const costs = await countOn(heap.workload, heap.earlier, peer);
    mean += costs.mean / heaps.length;
    slowest += costs.slowest / heaps.length;
    worst = Math.max(worst, costs.worst);
  }
  return { mean, slowest, worst };
}

/** `countCalls` for one heap, without the first `earlier` calls. */
async function countOn(workload: Workload, earlier: number, peer: Peer): Promise<CallCosts> {
  const calls = workload.ops.length / 2;
  const costs = new Uint32Array(calls);
  let at = 0;
  let worst = 0;

  const place = layout(workload.ops.length, workload.slots, 4);
  const file = readFileSync(await linkDriver(["count"], peer, place));
  const module = new WebAssembly.Module(Uint8Array.from(countInstructions(file, ["replay"])));
  const bench = {
    count: () => counter.value,
    note(kind: number, instructions: number) {
      const isCounted = at >= earlier;
      costs[at++] = instructions;
      if (isCounted && kind !== Op.calloc && kind !== Op.realloc && instructions > worst)
        worst = instructions;
    },
  };
  const driver = startDriver(module, { bench });
  const counter = driver[COUNTER] as unknown as WebAssembly.Global<"i32">;
  new Uint32Array(driver.memory.buffer, place.ops, workload.ops.length).set(workload.ops);
  driver.replay!(place.ops, place.ops + workload.ops.length * 4, place.blocks);

  const counted = costs.subarray(earlier).sort();
  const mean = counted.reduce((sum, cost) => sum + cost, 0) / counted.length;
  return { mean, slowest: counted[Math.ceil(counted.length * 0.999) - 1]!, worst };
}
