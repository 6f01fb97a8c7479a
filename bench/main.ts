/** `make bench`: compares rsbmalloc with other allocators. docs/performance.md describes the method. */
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { InvalidArgumentError } from "commander";
import { median } from "simple-statistics";
import { list, newCommand, runCommandLine, single } from "../npm/command-line.ts";
import { reasonOf } from "../npm/errors.ts";
import { UserError, displayPath, runCommand } from "../tools/command.ts";
import { mispredictions } from "./branches.ts";
import { measureBugs } from "./bugs.ts";
import { countCalls } from "./calls.ts";
import { engine, engineNames, type Engine } from "./engines.ts";
import { codeSize } from "./code-size.ts";
import { EMSCRIPTEN_MALLOCS, measureEmscripten } from "./emscripten/emscripten.ts";
import { measureThreads } from "./emscripten/threads.ts";
import { meanPeak } from "./memory.ts";
import { note, progress } from "./output.ts";
import { BUILD } from "./toolchain.ts";
import {
  linkDriver,
  layout,
  nullAllocator,
  optimized,
  otherLibrary,
  peer,
  peerNames,
  type Peer,
} from "./peers/peers.ts";
import { htmlReport } from "./report/html.ts";
import { tables } from "./report/tables.ts";
import { terminalTable } from "./report/terminal.ts";
import type { Measured, Results, WorkloadResult } from "./results.ts";
import type { TimedWorkload, Timing } from "./runner.ts";
import { workloads } from "./workloads/catalog.ts";
import type { Workload } from "./workloads/workload.ts";

const REPORT = path.join(BUILD, "report.html");

/**
 * How often each engine is started anew, and the least number of samples each time. Where code and data come to lie
 * changes times, in V8 by up to a third, and differs from process to process.
 */
const PROCESSES = 5;
const SAMPLES = 10;
const SAMPLE_MS = 2;

/** Measured by replaying workloads in WASI programs, linked with each allocator. */
const REPLAYED = ["memory", "times", "calls", "branches", "sizes"] as const;
const MEASURES = [...REPLAYED, "emscripten", "threads", "bugs"] as const;
type Measure = (typeof MEASURES)[number];

interface Options {
  readonly only?: readonly string[];
  readonly peers?: readonly string[];
  readonly engines?: readonly string[];
  readonly measure?: readonly string[];
  readonly library?: readonly string[];
  readonly quick?: boolean;
  readonly touch?: boolean;
  readonly wasmOpt?: boolean;
  readonly verify?: boolean;
  readonly json?: boolean;
}

const program = newCommand("bench", 'make bench BENCH="--help"')
  .description("Compares rsbmalloc with other allocators, in several engines.")
  .option("--only <names>", "Workloads or groups (small, large, synthetic), comma-separated", names)
  .option("--peers <names>", `Allocators, comma-separated: ${peerNames.join(", ")}`, names)
  .option("--engines <names>", `Engines, comma-separated: ${engineNames.join(", ")}`, names)
  .option("--measure <names>", `What to measure, comma-separated: ${MEASURES.join(", ")}`, names)
  .option("--library <name=file.a>", "Another build of rsbmalloc to compare; may be repeated", list)
  .option("--quick", "A first look: only memory and times, with fewer samples")
  .option("--touch", "Write to the first byte of each block")
  .option("--wasm-opt", "Run wasm-opt -O3 on each linked program before timing it")
  .option("--verify", "Check every result and measure memory, nothing else")
  .option("--json", "Print the results as JSON")
  .action((options: Options) => runCommand(() => bench(options).finally(() => progress())));
await runCommandLine(program);

function names(text: string, previous: unknown): readonly string[] {
  const given = single(text, previous).split(",").filter(Boolean);
  if (given.length === 0) throw new InvalidArgumentError("It contains no name");
  return given;
}

async function bench(options: Options): Promise<void> {
  const measures = measuresOf(options);
  const chosen = workloads(options.only ?? []);
  const results: Results = { peers: [], engines: [], workloads: [], sizes: {} };
  if (REPLAYED.some((measure) => measures.has(measure))) await compare(results, chosen, measures, options);
  if (measures.has("emscripten")) {
    const names = chosen.map(({ name }) => name);
    const mallocs = EMSCRIPTEN_MALLOCS.filter((name) => (options.peers ?? peerNames).includes(name));
    const section = await measureEmscripten(names, mallocs, options.quick ?? false);
    if (section) results.emscripten = section;
  }
  if (measures.has("threads")) {
    const section = await measureThreads(options.quick ?? false);
    if (section) results.threads = section;
  }
  if (measures.has("bugs")) results.bugs = await measureBugs(options.peers ?? []);
  progress();
  if (options.json) console.log(JSON.stringify(results, null, 2));
  else for (const table of tables(results)) console.log(`\n${terminalTable(table)}`);
  mkdirSync(BUILD, { recursive: true });
  writeFileSync(REPORT, htmlReport(results));
  note(`the report with plots is ${displayPath(REPORT)}`);
}

/** Replays the workloads with each allocator, and adds what it measures to `results`. */
async function compare(
  results: Results,
  chosen: readonly Workload[],
  measures: Set<Measure>,
  options: Options,
): Promise<void> {
  const peers = await available("allocator", options.peers ?? peerNames, (name) => peer(name));
  for (const pair of options.library ?? []) {
    const [name, file] = pair.split("=");
    if (!name || !file) throw new UserError(`--library expects NAME=FILE.a, but got ${pair}`);
    peers.push(await otherLibrary(name, file));
  }
  if (peers.length === 0) throw new UserError("no allocator is left to measure: the lines above say why");
  results.peers.push(...peers.map(({ name }) => name));
  const engines = measures.has("times")
    ? await available("engine", options.engines ?? engineNames, engine)
    : [];

  for (const workload of chosen) {
    progress(`checking ${workload.name}`);
    results.workloads.push(await replay(workload, peers, measures));
  }
  if (engines.length > 0) {
    const timed = [await nullAllocator(), ...peers].map((p) => (options.wasmOpt ? optimized(p) : p));
    await measureTimes(results, chosen, timed, engines, options);
  }
  if (measures.has("sizes")) await measureSizes(results, peers);
}

function measuresOf({ measure, quick, verify }: Options): Set<Measure> {
  if (verify) return new Set(["memory"]);
  const wanted = measure ?? (quick ? ["memory", "times"] : MEASURES);
  const unknown = wanted.find((name) => !MEASURES.includes(name as Measure));
  if (unknown !== undefined)
    throw new UserError(`--measure does not know ${unknown}: choose from ${MEASURES.join(", ")}`);
  return new Set(wanted as Measure[]);
}

/** Replays a workload with each peer: checks its results, and measures memory and, if wanted, instructions and branches. */
async function replay(
  workload: Workload,
  peers: readonly Peer[],
  measures: Set<Measure>,
): Promise<WorkloadResult> {
  const { name, about, group, ops } = workload;
  const result: WorkloadResult = {
    name,
    about,
    group,
    calls: ops.length / 2,
    peaks: {},
    costs: {},
    mispredictions: {},
    times: {},
  };
  for (const p of peers) {
    const peak = await meanPeak(workload, p).catch(reasonOf);
    result.peaks[p.name] = peak;
    if (measures.has("calls") && typeof peak === "number")
      result.costs[p.name] = await countCalls(workload, p);
    if (measures.has("branches") && typeof peak === "number")
      result.mispredictions[p.name] = await mispredictions(workload, p);
  }
  return result;
}

async function measureTimes(
  results: Results,
  chosen: readonly Workload[],
  peers: readonly Peer[],
  engines: readonly Engine[],
  { quick = false, touch = false }: Options,
): Promise<void> {
  mkdirSync(path.join(BUILD, "ops"), { recursive: true });
  for (const workload of chosen) writeFileSync(opsFile(workload), workload.ops);
  for (const { name, title, drivers, time } of engines) {
    progress(`timing in ${title}`);
    try {
      const prepared: TimedWorkload[] = [];
      for (const workload of chosen) {
        const sound = peers.filter((p) => typeof peaksOf(results, workload)[p.name] !== "string");
        prepared.push(await prepare(workload, sound, drivers));
      }
      const timings: Timing[] = [];
      for (let i = 0; i < (quick ? 1 : PROCESSES); i++) {
        const ordered = prepared.map((workload) => ({ ...workload, modules: rotated(workload.modules, i) }));
        timings.push(...(await time({ workloads: ordered, samples: SAMPLES, sampleTime: SAMPLE_MS, touch })));
      }
      for (const row of results.workloads) {
        const nets = timings.filter(({ workload }) => workload === row.name).map((t) => netOfLoop(t.peers));
        if (nets.length > 0) row.times[name] = medians(nets);
      }
      results.engines.push({ name, title });
    } catch (error) {
      note(`engine ${name} is left out: ${reasonOf(error)}`);
    }
  }
}

function opsFile({ name }: Workload): string {
  return path.join(BUILD, "ops", `${name}.bin`);
}

function peaksOf(results: Results, { name }: Workload): WorkloadResult["peaks"] {
  return results.workloads.find((row) => row.name === name)!.peaks;
}

async function prepare(
  workload: Workload,
  peers: readonly Peer[],
  drivers: readonly string[],
): Promise<TimedWorkload> {
  const place = layout(workload.ops.length, workload.slots, 4);
  const modules = [];
  for (const p of peers) modules.push({ peer: p.name, file: await linkDriver(drivers, p, place) });
  return { name: workload.name, ops: opsFile(workload), opsAt: place.ops, blocksAt: place.blocks, modules };
}

function rotated<T>(list: readonly T[], by: number): T[] {
  return list.map((_, i) => list[(i + by) % list.length]!);
}

/** Returns each peer's median time, or what went wrong in any of the runs. */
function medians(runs: readonly Record<string, Measured>[]): Record<string, Measured> {
  return Object.fromEntries(
    Object.keys(runs[0]!).map((name) => {
      const times = runs.map((run) => run[name]!);
      const failed = times.find((ns) => typeof ns === "string");
      return [name, failed ?? median(times as number[])];
    }),
  );
}

/** Subtracts the time of the loop, which is that of the null allocator. */
function netOfLoop({ null: loop, ...peers }: Timing["peers"]): Record<string, Measured> {
  return Object.fromEntries(
    Object.entries(peers).map(([name, ns]) => [
      name,
      typeof ns === "number" && typeof loop === "number" ? Math.max(0, ns - loop) : (ns ?? "no time"),
    ]),
  );
}

/** Measures code size. Peers that are compiled from source are built for size. */
async function measureSizes(results: Results, peers: readonly Peer[]): Promise<void> {
  const stub = await nullAllocator();
  for (const p of peers) {
    try {
      const small = peerNames.includes(p.name) ? await peer(p.name, "size") : p;
      results.sizes[p.name] = await codeSize(small, stub);
    } catch (error) {
      note(`the size of ${p.name} is left out: ${reasonOf(error)}`);
    }
  }
}

/** Returns what `get` can provide. For each of the others, prints a line with the reason. */
async function available<T>(
  what: string,
  names: readonly string[],
  get: (name: string) => Promise<T>,
): Promise<T[]> {
  const found: T[] = [];
  for (const name of names) {
    try {
      found.push(await get(name));
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      note(`${what} ${name} is left out: ${error.message}`);
    }
  }
  return found;
}
