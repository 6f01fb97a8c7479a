/** `make traces`: compiles the programs of bench/programs with a recorder, runs them, and writes bench/traces. */
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { newCommand, runCommandLine } from "../npm/command-line.ts";
import { reasonOf } from "../npm/errors.ts";
import { UserError, runCommand } from "../tools/command.ts";
import { runProgram } from "../tools/wasi.ts";
import { note } from "./output.ts";
import { BENCH, link } from "./toolchain.ts";
import { PROGRAMS, programs, sourcesOf, type Program } from "./programs/catalog.ts";
import { TRACES } from "./workloads/catalog.ts";
import { encodeTrace } from "./workloads/trace-file.ts";
import { Op, recorder, type Recorder, type Workload } from "./workloads/workload.ts";

/** Features that the programs need and WASI lacks, which wasi-libc emulates. */
const EMULATED = ["signal", "process-clocks", "getpid"];

const WRAPPED = ["malloc", "calloc", "realloc", "free", "aligned_alloc", "posix_memalign"];

async function build(program: Program): Promise<string> {
  const { inputs, includes, flags } = await sourcesOf(program);
  return link({
    inputs: [...inputs, path.join(PROGRAMS, "recorder.c")],
    flags: [
      "-O1",
      "-fno-builtin-malloc",
      ...EMULATED.map((feature) => `-D_WASI_EMULATED_${feature.toUpperCase().replaceAll("-", "_")}`),
      ...flags,
    ],
    includes: [...includes, path.join(BENCH, "c")],
    linkFlags: [
      `-Wl,-z,stack-size=1048576,${WRAPPED.map((name) => `--wrap=${name}`).join(",")}`,
      ...EMULATED.map((feature) => `-lwasi-emulated-${feature}`),
    ],
  });
}

async function record(program: Program): Promise<Workload> {
  const to = recorder();
  const { exitCode, trap } = await runProgram("node", await build(program), {
    name: program.name,
    stdin: (await program.input?.()) ?? "",
    imports: { trace: tracer(to) },
  });
  if (trap) throw new Error(`it trapped: ${trap.message}`);
  if (exitCode !== 0) throw new Error(`it exited with code ${exitCode}`);
  return to.finish(program.name, program.group, program.about);
}

/** Returns the functions that recorder.c imports. They map the addresses of blocks to the recorder's slots. */
function tracer(to: Recorder) {
  const slotOf = new Map<number, number>();
  const allocate = {
    [Op.malloc]: to.malloc,
    [Op.calloc]: to.calloc,
    [Op.aligned]: (size: number, alignment: number) => to.aligned(alignment, size),
  };
  function slot(block: number): number {
    const found = slotOf.get(block);
    if (found === undefined) throw new Error("the program frees a block that it did not allocate");
    return found;
  }
  return {
    allocated(kind: keyof typeof allocate, block: number, size: number, alignment: number) {
      slotOf.set(block, allocate[kind](size, alignment));
    },
    resized(old: number, block: number, size: number) {
      const same = slot(old);
      to.realloc(same, size);
      slotOf.delete(old);
      slotOf.set(block, same);
    },
    freed(block: number) {
      to.free(slot(block));
      slotOf.delete(block);
    },
  };
}

async function recordAll(wanted: readonly string[]): Promise<void> {
  const unknown = wanted.find((name) => !programs.some((p) => p.name === name));
  if (unknown !== undefined)
    throw new UserError(
      `there is no program named ${unknown}: choose from ${programs.map(({ name }) => name).join(", ")}`,
    );
  mkdirSync(TRACES, { recursive: true });
  for (const program of programs) {
    if (wanted.length > 0 && !wanted.includes(program.name)) continue;
    try {
      const workload = await record(program);
      const bytes = encodeTrace(workload);
      writeFileSync(path.join(TRACES, `${program.name}.trace.br`), bytes);
      console.log(
        `${program.name}: ${workload.ops.length / 2} calls, at most ${workload.slots} live blocks, ${bytes.length} bytes`,
      );
    } catch (error) {
      note(`${program.name} is not recorded: ${reasonOf(error)}`);
      process.exitCode = 1;
    }
  }
}

const program = newCommand("record", 'make traces TRACES="--help"')
  .description("Records the allocation traces of real programs again: bench/traces.")
  .argument("[programs...]", "Programs to record; all by default")
  .action((wanted: readonly string[]) => runCommand(() => recordAll(wanted)));
await runCommandLine(program);
