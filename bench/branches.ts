/**
 * Counts the branches that a processor would mispredict. Instructions say little about the time of code whose branches
 * depend on its data, and a machine's own counters are seldom within reach of a program. So each conditional branch
 * reports to a simulated predictor.
 */
import { readFileSync } from "node:fs";
import loadWabt from "wabt";
import { startDriver } from "./driver.ts";
import { layout, linkDriver, type Peer } from "./peers/peers.ts";
import type { Workload } from "./workloads/workload.ts";

/** How many of the latest branches a prediction depends on. */
const HISTORY = 40;
/** A prediction that is right is learned from as well, unless its sum is at least this: see `predictor`. */
const CERTAIN = Math.floor(1.93 * HISTORY + 14);
const WEIGHT_MAX = 127;

/** The function that branches report to. */
const BRANCH = { module: "bench", name: "branch" };

/** Returns the number of mispredicted branches per call. The first replays only teach the predictor and warm the heap. */
export async function mispredictions(workload: Workload, peer: Peer): Promise<number> {
  const { ops, slots } = workload;
  const place = layout(ops.length, slots, 4);
  const { module, count } = await reportBranches(
    readFileSync(await linkDriver(["replay"], peer, place)),
    "replay",
  );
  const { branch, missed } = predictor(count);
  const imports = { [BRANCH.module]: { [BRANCH.name]: branch } };
  const driver = startDriver(await WebAssembly.compile(Uint8Array.from(module)), imports);
  new Uint32Array(driver.memory.buffer, place.ops, ops.length).set(ops);
  const calls = ops.length / 2;
  const replays = Math.ceil(50_000 / calls);
  const replay = (): void => {
    for (let i = 0; i < replays; i++)
      driver.replay!(place.ops, place.ops + ops.length * Uint32Array.BYTES_PER_ELEMENT, place.blocks);
  };
  replay();
  const before = missed();
  replay();
  return (missed() - before) / (replays * calls);
}

/**
 * Returns the module with each conditional branch reported: the condition and the branch's number. Those of the function
 * that is exported as `without` are not. Also returns how many branches there are.
 */
export async function reportBranches(
  module: Uint8Array,
  without: string,
): Promise<{ module: Uint8Array; count: number }> {
  const wabt = await loadWabt();
  const features = { bulk_memory: true, simd: true, sign_extension: true, mutable_globals: true };
  const parsed = wabt.readWasm(module, { readDebugNames: false, ...features });
  parsed.generateNames();
  parsed.applyNames();
  const [header, ...functions] = parsed
    .toText({ foldExprs: false, inlineExport: false })
    .split(/(?=\n {2}\(func )/);
  parsed.destroy();

  const exempt = new RegExp(String.raw`\(export "${without}" \(func ([^\s)]+)`).exec(functions.at(-1)!)?.[1];
  let count = 0;
  const reporting = functions.map((text) =>
    exempt !== undefined && text.includes(`(func ${exempt} `)
      ? text
      : text.replaceAll(
          /\n +(?=br_if |if\b)/g,
          (indent) => `${indent}i32.const ${count++} call $branch ${indent}`,
        ),
  );
  const declared = `(import "${BRANCH.module}" "${BRANCH.name}" (func $branch (param i32 i32) (result i32)))`;
  const text =
    header!.replace(/^\(module\S*( \$\S+)?/, (start) => `${start} ${declared}`) + reporting.join("");
  const changed = wabt.parseWat("branches.wat", text, features);
  const { buffer } = changed.toBinary({});
  changed.destroy();
  return { module: buffer, count };
}

/**
 * A perceptron for each of `count` branches: it predicts that a branch is taken if the sum of its weights is positive,
 * each with the sign of one of the latest branches (Jiménez and Lin, Dynamic Branch Prediction with Perceptrons, 2001).
 */
export function predictor(count: number) {
  const latest = new Int8Array(HISTORY).fill(-1);
  const weights = Array.from({ length: count }, () => new Int8Array(HISTORY + 1));
  let at = 0;
  let misses = 0;
  return {
    missed: () => misses,
    /** Predicts a branch, learns from its condition, and returns it. */
    branch(condition: number, index: number): number {
      const own = weights[index]!;
      let sum = own[HISTORY]!;
      for (let i = 0; i < HISTORY; i++) sum += own[i]! * latest[(at + i) % HISTORY]!;
      const isTaken = condition !== 0;
      const isMissed = sum >= 0 !== isTaken;
      if (isMissed) misses++;
      const outcome = isTaken ? 1 : -1;
      if (isMissed || Math.abs(sum) <= CERTAIN) {
        own[HISTORY] = clamp(own[HISTORY]! + outcome);
        for (let i = 0; i < HISTORY; i++) own[i] = clamp(own[i]! + outcome * latest[(at + i) % HISTORY]!);
      }
      at = (at + HISTORY - 1) % HISTORY;
      latest[at] = outcome;
      return condition;
    },
  };
}

function clamp(weight: number): number {
  return Math.max(-WEIGHT_MAX, Math.min(WEIGHT_MAX, weight));
}
