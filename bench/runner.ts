/*
 * Times workloads inside one engine. It runs as a script in each JavaScript engine that is measured, so it uses only
 * WebAssembly, performance.now and node:fs, and only types that can be erased.
 *
 * Its argument is a file with a Job as JSON. It prints a Timing for each workload, each as one line of JSON.
 */
import { readFileSync } from "node:fs";
import { startDriver } from "./driver.ts";

export interface Job {
  readonly workloads: readonly TimedWorkload[];
  /** The least number of samples of each module. The shortest one counts. */
  readonly samples: number;
  /**
   * The least duration of a sample, in ms: short workloads are repeated to reach it. On a busy machine many short samples
   * are better than a few long ones, as the best of them ran undisturbed.
   */
  readonly sampleTime: number;
  /** Whether to write to the first byte of each block. */
  readonly touch: boolean;
}

export interface TimedWorkload {
  readonly name: string;
  /** A file with the operations, as 32-bit words. */
  readonly ops: string;
  readonly opsAt: number;
  readonly blocksAt: number;
  readonly modules: readonly { readonly peer: string; readonly file: string }[];
}

export interface Timing {
  readonly workload: string;
  /** Nanoseconds per call, including the loop's time; or what went wrong. */
  readonly peers: Readonly<Record<string, number | string>>;
}

interface Sampler {
  readonly peer: string;
  readonly replay: () => void;
  repeats: number;
  best: number;
  failed?: string;
}

const { workloads, samples, sampleTime, touch } = JSON.parse(readFileSync(process.argv[2]!, "utf8")) as Job;

/** Sampling ends at this multiple of `samples`, even if times still improve. */
const LIMIT = 8;
/** A time counts as better if it is below this multiple of the best one. */
const BETTER = 0.98;

const compiled = new Map<string, WebAssembly.Module>();
for (const workload of workloads) console.log(JSON.stringify(await time(workload)));

async function time(workload: TimedWorkload): Promise<Timing> {
  const ops = readFileSync(workload.ops);
  const samplers = workload.modules.map(({ peer, file }) => sampler(peer, file, ops, workload));
  // The engine's optimizing compiler works in the background. Let it finish: a few rounds and pauses that do not count.
  for (let warmUp = 0; warmUp < 3; warmUp++) {
    for (const s of samplers) measure(s);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  for (const s of samplers) s.repeats = Math.ceil(sampleTime / Math.max(s.best, 0.001));
  for (const s of samplers) s.best = Infinity;
  // On a busy machine `samples` may be too few: go on while times still improve, up to a limit.
  let sinceBetter = 0;
  for (let i = 0; i < samples || (sinceBetter < samples / 2 && i < samples * LIMIT); i++) {
    const before = samplers.map((s) => s.best);
    for (const s of samplers) measure(s);
    sinceBetter = samplers.some((s, k) => s.best < before[k]! * BETTER) ? 0 : sinceBetter + 1;
  }
  const calls = ops.length / 8;
  return {
    workload: workload.name,
    peers: Object.fromEntries(samplers.map((s) => [s.peer, s.failed ?? (s.best * 1e6) / calls])),
  };
}

function sampler(peer: string, file: string, ops: Uint8Array, { opsAt, blocksAt }: TimedWorkload): Sampler {
  let module = compiled.get(file);
  if (!module) compiled.set(file, (module = new WebAssembly.Module(readFileSync(file))));
  const driver = startDriver(module);
  new Uint8Array(driver.memory.buffer, opsAt, ops.length).set(ops);
  const replay = driver[touch ? "replay_touch" : "replay"]!;
  return {
    peer,
    replay: () => replay(opsAt, opsAt + ops.length, blocksAt),
    repeats: 1,
    best: Infinity,
  };
}

function measure(s: Sampler): void {
  if (s.failed) return;
  try {
    const start = performance.now();
    for (let i = 0; i < s.repeats; i++) s.replay();
    s.best = Math.min(s.best, (performance.now() - start) / s.repeats);
  } catch (error) {
    s.failed = String(error);
  }
}
