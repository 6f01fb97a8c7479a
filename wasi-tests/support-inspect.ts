/** Shared by the tests of the inspector: a program, heaps with blocks in them, and the command. */
import { spawn } from "node:child_process";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import * as assert from "uvu/assert";
import type { Heap } from "../npm/index.ts";
import { readHeaps, readLayouts, type HeapReport, type RunReport } from "../npm/inspect/index.ts";
import { ROOT } from "../tools/command.ts";
import { build, findCompiler } from "../tools/compiler.ts";
import { library } from "../tools/libraries.ts";
import { CLI, rsbmalloc, temporaryFolder, type Outcome } from "./support.ts";

export const LAYOUTS = readLayouts();

/** Builds one of the programs; by default the one that leaks blocks and ends with exit code 3. */
export async function buildProgram(name = "inspect-leaks"): Promise<string> {
  return build(await findCompiler(), {
    inputs: [`wasi-tests/programs/${name}.c`, library("wasm32-wasi")],
    flags: ["-fno-builtin"],
  });
}

export const FOLDER = temporaryFolder();

/** Writes a file to FOLDER and returns its path. */
export async function write(name: string, contents: string | Uint8Array): Promise<string> {
  const file = path.join(FOLDER, name);
  await writeFile(file, contents);
  return file;
}

/** Runs `rsbmalloc inspect`. */
export function command(...args: string[]): Promise<Outcome> {
  return rsbmalloc("inspect", ...args);
}

/** Milliseconds to wait for the output; an overloaded machine must be able to make it. */
const FOREVER = 300_000;

/** Runs `rsbmalloc inspect` until `wanted` holds for its standard error, then kills it. Returns what it wrote there. */
export async function commandUntil(wanted: (stderr: string) => boolean, ...args: string[]): Promise<string> {
  const child = spawn(process.execPath, [...CLI, "inspect", ...args], {
    cwd: ROOT,
    stdio: ["ignore", "ignore", "pipe"],
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), FOREVER);
  let stderr = "";
  for await (const text of child.stderr.setEncoding("utf8")) {
    stderr += text;
    if (wanted(stderr)) break;
  }
  clearTimeout(timer);
  child.kill("SIGKILL");
  assert.ok(wanted(stderr), stderr);
  return stderr;
}

/** Fills a heap with blocks of these sizes and frees two of every three. Returns the remaining ones. */
export function fill(heap: Heap, sizes: readonly number[]): number[] {
  const blocks = sizes.map((size) => heap.malloc(size));
  return blocks.filter((block, index) => {
    const kept = index % 3 === 0;
    if (!kept) heap.free(block);
    return kept;
  });
}

/** Sizes for many bins, and some for large blocks. */
export const SIZES = Array.from(
  { length: 600 },
  (_, index) => ((index * index * 37) % 300) * ((index % 7) + 1) + (index % 50 ? 0 : 60_000),
);

/** Requests of each size up to some bin, and more of zero bytes than a hardened heap serves without slots. */
const ALL_SIZES = [...Array<number>(4097).fill(0), ...Array.from({ length: 2176 }, (_, index) => index + 1)];

/** Checks what a heap without blocks says is lost to rounding once it has them: the most that a request can lose. */
export function checkRounding(memory: WebAssembly.Memory, malloc: (size: number) => number): void {
  const blocks = ALL_SIZES.map((size) => ({ address: malloc(size) >>> 0, size }));
  const [heap] = readHeaps(memory.buffer, LAYOUTS);
  const lost = new Map<number, number>();
  for (const { address, size } of blocks) {
    const { slotSize } =
      heap!.regions.findLast((region) => region.address <= address && region.serves === "slots") ?? {};
    // The blocks of zero bytes that a hardened heap serves without slots lie outside memory.
    if (slotSize === undefined || address >= memory.buffer.byteLength) continue;
    lost.set(slotSize, Math.max(lost.get(slotSize) ?? 0, slotSize - size));
  }
  assert.equal(
    heap!.bins.map(({ slotSize, usedSlots, rounding }) => [slotSize, rounding / usedSlots]),
    [...lost].sort(([a], [b]) => a - b),
  );
}

/** The report of a program run that ended with this heap. */
export function reportOf(heap: HeapReport): RunReport {
  return {
    program: "p",
    args: [],
    end: { exitCode: 0 },
    ms: 1,
    memory: heap.end,
    peak: 0,
    heaps: [heap],
    timeline: [],
  };
}
