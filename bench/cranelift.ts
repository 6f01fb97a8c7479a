/** Times workloads in Cranelift, by way of Wizer: to snapshot a module, it runs one of its functions in Wasmtime. */
import { execFile } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import {
  HEADER,
  OPCODE,
  SECTION,
  appended,
  flatten,
  payloadOf,
  readSections,
  section,
  signed,
  unsigned,
} from "../npm/binary-format.ts";
import { reasonOf } from "../npm/errors.ts";
import { UserError } from "../tools/command.ts";
import type { Job, TimedWorkload, Timing } from "./runner.ts";
import { BUILD } from "./toolchain.ts";

const run = promisify(execFile);

/** Files of bench/c: the replay loop, and a driver that runs and times it without help from outside. */
export const selfTimingDrivers = ["self", "replay"];

const NS_PER_MS = 1e6;

/** Runs a job in Wizer. Throws a UserError if the job asks to write to blocks, which the driver can't. */
export async function timeInWizer(wizer: string, job: Job): Promise<Timing[]> {
  if (job.touch) throw new UserError("it does not support --touch");
  const timings: Timing[] = [];
  for (const workload of job.workloads) {
    const peers: Record<string, number | string> = {};
    for (const { peer, file } of workload.modules)
      peers[peer] = await timeModule(wizer, file, workload, job).catch(reasonOf);
    timings.push({ workload: workload.name, peers });
  }
  return timings;
}

/** Returns nanoseconds per call. */
async function timeModule(wizer: string, file: string, workload: TimedWorkload, job: Job): Promise<number> {
  const ops = readFileSync(workload.ops);
  const calls = ops.length / 8;
  // Assume ten nanoseconds per call when choosing the number of repeats.
  const repeats = Math.ceil((job.sampleTime * NS_PER_MS) / (calls * 10));
  const module = embed(readFileSync(file), workload.opsAt, jobBytes(ops, workload, job.samples, repeats));
  const input = path.join(BUILD, `wizer-${process.pid}.wasm`);
  const output = `${input}.out`;
  writeFileSync(input, module);
  try {
    const args = [input, "--allow-wasi", "--init-func", "run", "-o", output];
    const { stdout } = await run(wizer, args);
    return Number(stdout) / repeats / calls;
  } finally {
    rmSync(input);
    rmSync(output, { force: true });
  }
}

/** Returns a `struct job` of bench/c/self.c, followed by the operations. */
function jobBytes(ops: Uint8Array, workload: TimedWorkload, samples: number, repeats: number): Uint8Array {
  const header = 16;
  const words = [workload.opsAt + header + ops.length, workload.blocksAt + header, samples, repeats];
  return Buffer.concat([new Uint8Array(Uint32Array.from(words).buffer), ops]);
}

/** Returns the module with a further data segment, which puts `bytes` at an address. */
function embed(module: Uint8Array, address: number, bytes: Uint8Array): Uint8Array {
  const sections = readSections(module).filter(({ id }) => id !== SECTION.custom && id !== SECTION.dataCount);
  const ACTIVE = 0;
  const segment = [ACTIVE, OPCODE.i32Const, signed(address), OPCODE.end, unsigned(bytes.length), bytes];
  const others = sections.filter(({ id }) => id !== SECTION.data);
  return flatten([
    HEADER,
    others.map(({ id, payload }) => section(id, payload)),
    section(SECTION.data, appended(payloadOf(sections, SECTION.data), segment)),
  ]);
}
