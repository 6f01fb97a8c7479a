/** The Emscripten section: whole programs, built by the installed emcc with each malloc, run in Node and in Chromium. */
import { mkdirSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { reasonOf } from "../../npm/errors.ts";
import {
  EmscriptenError,
  buildEmscripten,
  findEmscripten,
  linkMalloc,
  type Emscripten,
} from "../../tools/emscripten.ts";
import { UserError } from "../../tools/command.ts";
import { note, progress } from "../output.ts";
import { programs, sourcesOf, type Program } from "../programs/catalog.ts";
import type { EmscriptenResults, Measured, ProgramResult } from "../results.ts";
import { BENCH, BUILD } from "../toolchain.ts";
import { chromium, node, type Engine } from "./engines.ts";
import type { Job } from "./sampler.ts";

export const EMSCRIPTEN_MALLOCS: readonly string[] = ["rsbmalloc", "dlmalloc", "emmalloc", "mimalloc"];

const HARNESS = path.join(BENCH, "emscripten", "harness.c");
const INPUTS = path.join(BUILD, "inputs");

/** The usual optimization level, and memory that can grow; otherwise emcc's defaults. */
const COMPILE = ["-O2", "-r"];
const LINK = [
  "-O2",
  "-sENVIRONMENT=web",
  "-sMODULARIZE",
  "-sEXPORT_ES6",
  "-sINVOKE_RUN=0",
  "-sEXPORTED_FUNCTIONS=_main",
  "-sEXPORTED_RUNTIME_METHODS=HEAPU8",
  "-sTOTAL_STACK=1MB",
  "-sALLOW_MEMORY_GROWTH",
];

const SAMPLES = { usual: 12, quick: 3 };

/** Runs the programs with these names. Leaves out what is unavailable, with a line each; undefined if nothing is left. */
export async function measureEmscripten(
  names: readonly string[],
  mallocs: readonly string[],
  quick: boolean,
): Promise<EmscriptenResults | undefined> {
  const chosen = programs.filter(({ name }) => names.includes(name));
  if (chosen.length === 0) return undefined;
  const emscripten = await findEmscripten().catch(leftOut("the Emscripten section"));
  if (!emscripten) return undefined;
  const engines = [node()];
  const browser = await chromium().catch(leftOut("Chromium"));
  if (browser) engines.push(browser);
  try {
    const peers = await available(emscripten, mallocs);
    const results: EmscriptenResults = {
      title: release(emscripten),
      peers,
      engines: engines.map(({ name, title }) => ({ name, title })),
      programs: [],
    };
    for (const program of chosen) {
      progress(`running ${program.name}, built by emcc`);
      const result = await measure(program, emscripten, results.peers, engines, quick).catch(
        leftOut(`${program.name} under Emscripten`),
      );
      if (result) results.programs.push(result);
    }
    return results.programs.length > 0 ? results : undefined;
  } finally {
    for (const { close } of engines) await close();
  }
}

/** Returns an error handler that notes what is left out, and why. It throws other errors again: they are bugs here. */
export function leftOut(what: string): (error: unknown) => undefined {
  return (error) => {
    if (!(error instanceof UserError || error instanceof EmscriptenError)) throw error;
    const reason = error.message.split("\n").find((line) => /error|Exception/.test(line));
    note(`${what} is left out: ${reason ?? reasonOf(error)}`);
  };
}

/** Returns the name and version of emcc. */
export function release({ version }: Emscripten): string {
  return `emcc ${/\d+(\.\d+)+/.exec(version)?.[0] ?? version}`;
}

/** Returns the mallocs that this emcc can link; prints a line for each of the others. */
async function available(emscripten: Emscripten, mallocs: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const name of mallocs) {
    const program = { inputs: [HARNESS], flags: ["--no-entry", ...linkMalloc(name)] };
    try {
      await buildEmscripten(emscripten, program);
      found.push(name);
    } catch (error) {
      if (!(error instanceof EmscriptenError)) throw error;
      note(`Emscripten's ${name} is left out: ${release(emscripten)} does not have it`);
    }
  }
  return found;
}

async function measure(
  program: Program,
  emscripten: Emscripten,
  mallocs: readonly string[],
  engines: readonly Engine[],
  quick: boolean,
): Promise<ProgramResult> {
  const { name, group, about } = program;
  const result: ProgramResult = { name, group, about, sizes: {}, peaks: {}, times: {} };
  const modules: Job["modules"][number][] = [];
  const object = await compile(emscripten, program);
  const harness = await buildEmscripten(emscripten, {
    inputs: [HARNESS],
    flags: COMPILE,
    output: "harness.o",
  });
  for (const malloc of mallocs) {
    const script = await buildEmscripten(emscripten, {
      inputs: [object, harness],
      flags: [...LINK, ...linkMalloc(malloc)],
      output: `${name}.mjs`,
    });
    const wasm = script.replace(/\.mjs$/, ".wasm");
    result.sizes[malloc] = statSync(wasm).size;
    modules.push({ malloc, script, wasm });
  }
  mkdirSync(INPUTS, { recursive: true });
  const input = path.join(INPUTS, name);
  writeFileSync(input, (await program.input?.()) ?? "");
  for (const engine of engines) {
    const runs = await engine.time({ input, modules, samples: quick ? SAMPLES.quick : SAMPLES.usual });
    const times: Record<string, Measured> = (result.times[engine.name] = {});
    for (const [malloc, run] of Object.entries(runs)) {
      times[malloc] = typeof run === "string" ? run : run.time;
      result.peaks[malloc] = typeof run === "string" ? run : run.heap;
    }
  }
  return result;
}

/** Compiles the program and its libraries into one object, which is then linked with each malloc. */
async function compile(emscripten: Emscripten, program: Program): Promise<string> {
  const { inputs, includes, flags } = await sourcesOf(program);
  return buildEmscripten(emscripten, {
    inputs,
    flags: [...COMPILE, ...includes.map((folder) => `-I${folder}`), ...flags],
    output: `${program.name}.o`,
  });
}
