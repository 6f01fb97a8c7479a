/** The section for threads: bench/c/threads.c, built by the installed emcc with each malloc and run in Node. */
import { statSync } from "node:fs";
import { reasonOf } from "../../npm/errors.ts";
import {
  buildEmscripten,
  findEmscripten,
  linkLibrary,
  linkMalloc,
  runEmscripten,
  type Emscripten,
} from "../../tools/emscripten.ts";
import { progress } from "../output.ts";
import type { Measured, ThreadResult, ThreadResults } from "../results.ts";
import { leftOut, release } from "./emscripten.ts";

interface Peer {
  readonly name: string;
  readonly link: readonly string[];
  /** Whether it is built without threads, for runs with one thread. */
  readonly single?: boolean;
  /** Additional sources and flags. */
  readonly compile?: readonly string[];
}

const PEERS: readonly Peer[] = [
  { name: "-mt", link: linkLibrary("mt") },
  { name: "-locked", link: linkLibrary("locked") },
  { name: "dlmalloc", link: linkMalloc("dlmalloc") },
  { name: "emmalloc", link: linkMalloc("emmalloc") },
  { name: "no threads", link: linkMalloc("rsbmalloc"), single: true },
];

/** The loop alone, whose time is subtracted from the others'. It also runs the controls. */
const LOOP: Peer = {
  name: "loop",
  link: linkMalloc("dlmalloc"),
  compile: ["bench/c/threads-null.c", "-DNULL_MALLOC"],
};

interface ThreadWorkload {
  readonly name: string;
  readonly about: string;
  /** Whether it makes no calls, and shows instead how well the machine runs that many threads. */
  readonly control?: boolean;
}

const WORKLOADS: readonly ThreadWorkload[] = [
  {
    name: "spin",
    about: "a control: dependent arithmetic steps, to see whether each thread has a core",
    control: true,
  },
  {
    name: "wide",
    about: "a control: eight independent arithmetic steps, to see whether cores share execution units",
    control: true,
  },
  { name: "local", about: "each thread replaces its own blocks" },
  { name: "larson", about: "each thread replaces blocks, then leaves them to another" },
  { name: "pairs", about: "in each pair of threads, one allocates and the other frees" },
  { name: "queue", about: "all threads put blocks into one queue and free those that come out" },
  { name: "exchange", about: "blocks of mixed sizes pass from thread to thread at random" },
];

const THREADS = [1, 2, 4, 8] as const;

const COMPILE = [
  "-O2",
  "-fno-builtin",
  "-sEXIT_RUNTIME=1",
  "-sALLOW_MEMORY_GROWTH",
  "-sTOTAL_STACK=65536",
  "-Wno-pthreads-mem-growth",
];
const WITH_THREADS = [
  "-pthread",
  "-sPROXY_TO_PTHREAD=1",
  `-sPTHREAD_POOL_SIZE=${Math.max(...THREADS) + 1}`,
  "-sDEFAULT_PTHREAD_STACK_SIZE=65536",
];

/** For the programs whose size is measured, and the further flags of each. */
const SIZE = ["-O2", "-fno-builtin", "-pthread", "--no-entry"];
const SIZES = {
  "the usual seven functions": [],
  // As in a program that uses std::thread.
  "the same, pthread keys apart": ["-Wl,-u,pthread_key_create,-u,pthread_setspecific"],
};

/** Number of time windows in a run, and number of runs of each program. */
const WINDOWS = 50;
const RUNS = { usual: 3, quick: 1 };

/** Runs each workload with each number of threads. Without emcc, prints a line and returns undefined. */
export async function measureThreads(quick: boolean): Promise<ThreadResults | undefined> {
  const emscripten = await findEmscripten().catch(leftOut("the section for threads"));
  if (!emscripten) return undefined;
  const built: { peer: Peer; script: string }[] = [];
  for (const peer of [LOOP, ...PEERS]) {
    progress(`building for threads: ${peer.name}`);
    const script = await build(emscripten, peer).catch(leftOut(`${peer.name} with threads`));
    if (script !== undefined) built.push({ peer, script });
  }
  const rows: ThreadResult[] = [];
  for (const { name, about, control } of WORKLOADS) {
    for (const threads of THREADS) {
      const row: ThreadResult = {
        name: `${name}, ${threads}`,
        about,
        group: "threads",
        times: {},
        heaps: {},
      };
      for (let run = 0; run < (quick ? RUNS.quick : RUNS.usual); ++run) {
        for (const { peer, script } of built) {
          if ((peer.single && threads > 1) || (control && peer !== LOOP)) continue;
          progress(`${name}, ${threads} threads: ${peer.name}`);
          await sample(row, peer.name, script, [name, String(threads), String(WINDOWS)]);
        }
      }
      rows.push(netOfLoop(row));
    }
  }
  const peers = built.map(({ peer }) => peer.name).filter((name) => name !== LOOP.name);
  return { title: release(emscripten), peers, rows, sizes: await measureSizes(emscripten) };
}

/** Returns how many bytes each malloc for threads adds to a program, compared with one that does nothing. */
async function measureSizes(emscripten: Emscripten): Promise<ThreadResults["sizes"]> {
  const size = async (name: string, flags: readonly string[], inputs: readonly string[] = []) => {
    progress(`the size of ${name} with threads`);
    const program = { inputs: ["bench/c/size-api.c", ...inputs], flags: [...SIZE, ...flags] };
    const script = await buildEmscripten(emscripten, program).catch(
      leftOut(`the size of ${name} with threads`),
    );
    return script === undefined ? NaN : statSync(script.replace(/js$/, "wasm")).size;
  };
  const sizes: Record<string, Record<string, number>> = {};
  for (const [kind, flags] of Object.entries(SIZES)) {
    const stub = await size("the stub", [...flags, "-sMALLOC=none"], ["bench/peers/null.c"]);
    if (Number.isNaN(stub)) continue;
    const added: Record<string, number> = {};
    for (const { name, link } of PEERS.filter(({ single }) => !single)) {
      const bytes = (await size(name, [...flags, ...link])) - stub;
      if (!Number.isNaN(bytes)) added[name] = bytes;
    }
    sizes[kind] = added;
  }
  return sizes;
}

/** Subtracts the loop's time from the others. */
function netOfLoop(row: ThreadResult): ThreadResult {
  const { [LOOP.name]: loop, ...times } = row.times;
  const net = (time: Measured) => (typeof time === "number" && typeof loop === "number" ? time - loop : time);
  return {
    ...row,
    loop,
    times: Object.fromEntries(Object.entries(times).map(([name, time]) => [name, net(time)])),
  };
}

function build(emscripten: Emscripten, { link, single, compile = [] }: Peer): Promise<string> {
  const flags = [...COMPILE, ...(single ? [] : WITH_THREADS), ...compile, ...link];
  return buildEmscripten(emscripten, { inputs: ["bench/c/threads.c"], flags, output: "threads.js" });
}

/** Runs a program once, and updates its row: with the shortest time and the largest heap, or with the first failure. */
async function sample(row: ThreadResult, peer: string, script: string, args: readonly string[]) {
  const [time, heap] = await timed(script, args).catch((error: unknown) => [reasonOf(error), undefined]);
  row.times[peer] = better(Math.min, row.times[peer], time!);
  if (heap !== undefined) row.heaps[peer] = better(Math.max, row.heaps[peer], heap);
}

async function timed(script: string, args: readonly string[]): Promise<[number, number]> {
  const { stdout, stderr, exitCode } = await runEmscripten(script, args);
  const found = /^([\d.]+) (\d+)$/m.exec(stdout);
  if (exitCode !== 0 || !found) throw new Error(stderr.split("\n")[0] || `exited with code ${exitCode}`);
  return [Number(found[1]), Number(found[2])];
}

function better(choose: (a: number, b: number) => number, old: Measured | undefined, now: Measured) {
  if (typeof old === "string" || typeof now === "string") return typeof old === "string" ? old : now;
  return old === undefined ? now : choose(old, now);
}
