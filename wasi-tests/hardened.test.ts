/** The hardened library: each bug traps, in the function whose name says which kind of bug it is. */
import { readFile } from "node:fs/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { build, findCompiler } from "../tools/compiler.ts";
import { library } from "../tools/libraries.ts";
import { RUNTIMES, runProgram } from "../tools/wasi.ts";

const LIBRARY = library("wasm32-wasi", "hardened");
const compiler = await findCompiler();

/** Builds without -O, with which clang would run wasm-opt, which drops the functions' names that the tests look for. */
async function buildHardened(...inputs: string[]): Promise<WebAssembly.Module> {
  const program = { inputs: [...inputs, LIBRARY], includes: ["include"], flags: ["-fno-builtin"] };
  return WebAssembly.compile(await readFile(await build(compiler, program)));
}

/**
 * The order in which slots are handed out is random, so a block's neighbours differ from seed to seed. Each case runs
 * with this many seeds, always the same ones. SEEDS=200 shows whether some order hides a bug.
 */
const SEEDS = Number(process.env.SEEDS ?? 3);

/** Kinds of blocks in slots, one for each way to obtain such a block. */
const SLOTS = ["tiny", "small", "full", "medium", "calloc", "aligned", "grown", "shrunk", "resized"];
/** Those in bins with small slots. */
const SMALL_SLOTS = SLOTS.filter((kind) => kind !== "medium" && kind !== "grown");
/** Kinds of blocks in page runs of their own. */
const RUNS = ["large", "pages", "over-aligned", "large-grown", "page_alloc"];
const ALL = [...SLOTS, ...RUNS];
/** Those of more than a few bytes. */
const ROOMY = ALL.filter((kind) => kind !== "tiny" && kind !== "small");

/** Those whose memory a later `malloc` of the same size can be given. */
const PLAIN = [
  "tiny",
  "small",
  "full",
  "medium",
  "calloc",
  "grown",
  "shrunk",
  "large",
  "pages",
  "large-grown",
];

/** For each fault, the cases of programs/hardened.c that must cause it, each with the kinds of blocks to try. */
const BUGS: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = {
  rsbmalloc_double_free: {
    double_free: ALL,
    double_free_later: ALL,
    double_free_much_later: SMALL_SLOTS,
    double_free_of_many: ["tiny", "small", "full"],
    double_free_through_alias: PLAIN.filter((kind) => SLOTS.includes(kind)),
    realloc_after_free: ALL,
    usable_size_after_free: ALL,
    double_free_sized: ALL,
    zero_double_free: ["small"],
    zero_size_after_free: ["small"],
  },
  rsbmalloc_invalid_free: {
    free_interior: ROOMY,
    free_unaligned: ALL,
    free_near_end: ROOMY,
    free_before: ALL,
    realloc_interior: ROOMY,
    usable_size_of_interior: ROOMY,
    free_stack: ["small"],
    free_static: ["small"],
    free_literal: ["small"],
    free_function: ["small"],
    free_far: ["small", "large"],
    free_top: ["small"],
    free_first_page: ["small"],
    free_behind_heap: ["small"],
    free_never_allocated: ["small"],
    free_never_allocated_tiny: ["small"],
    free_never_allocated_of_many: ["small"],
    free_foreign: ["small"],
    zero_invalid_free: ["small"],
    zero_unaligned_free: ["small"],
    zero_size_unaligned: ["small"],
  },
  rsbmalloc_overflow: {
    overflow_zero: ALL,
    overflow_letter: ALL,
    overflow_8: ALL,
    overflow_32: ALL,
    overflow_page: ALL,
    overflow_megabyte: ALL,
    overflow_realloc: ALL,
    overflow_realloc_in_place: ALL,
    overflow_check: ALL,
    overflow_sized: ALL,
    overflow_usable: ALL,
    underflow_1: ALL,
    underflow_8: ALL,
    underflow_neighbours: ["tiny", "small", "full", "medium"],
    underflow_beside_waiting: ["tiny", "small", "full"],
    overflow_zeros_first: ["small", "full"],
    overflow_further: ["tiny"],
    overflow_further_then_free: ["tiny"],
    overflow_behind_guard: ["small"],
    overflow_zeros: ["small", "full"],
    overflow_zeros_check: ["small", "full"],
    copied_tail: ["small", "full"],
    underflow_large: ["large", "pages", "large-grown"],
    overflow_into_free: ["small", "full", "medium", "large"],
  },
  rsbmalloc_use_after_free: {
    write_first: ALL,
    write_middle: ALL,
    write_last: ALL,
    write_all_then_reuse: PLAIN,
    write_then_reuse: PLAIN,
    write_after_move: PLAIN,
    write_then_slots: ["large", "pages", "page_alloc"],
    write_then_growth: ["small"],
    write_then_map: ["small"],
    write_much_later: ALL,
    forged_link: ["small", "full", "medium"],
  },
  rsbmalloc_corruption: {
    overflow_static: ["small"],
  },
  rsbmalloc_size_mismatch: {
    sized_larger: ALL,
    sized_smaller: ALL,
    aligned_sized_larger: ["aligned"],
    zero_sized: ["small"],
  },
  rsbmalloc_alignment_mismatch: {
    aligned_sized_alignment: ["aligned", "over-aligned"],
    aligned_sized_of_malloc: ["small", "large"],
  },
};

/** In these cases the pages are free by then, which hides whether a block began there: either fault is right. */
const EITHER = ["rsbmalloc_double_free", "rsbmalloc_invalid_free"];
const FREED_PAGES: Readonly<Record<string, readonly string[]>> = {
  double_free_much_later: ["medium", "grown", "large", "pages", "large-grown", "over-aligned"],
  free_far_before: ALL.filter((kind) => kind !== "tiny"),
};

/** In these cases the engine traps, not a function of the library. */
const OUT_OF_MEMORY = ["zero_write", "zero_read", "zero_realloc_write", "zero_aligned_write"];

const bugs = await buildHardened("wasi-tests/programs/hardened.c");

const CASES = [
  ...Object.entries(BUGS).flatMap(([fault, cases]) =>
    Object.entries(cases).map(([name, kinds]) => ({ name, kinds, faults: [fault] })),
  ),
  ...Object.entries(FREED_PAGES).map(([name, kinds]) => ({ name, kinds, faults: EITHER })),
];

for (const runtime of RUNTIMES) {
  for (const [at, { name, kinds: all, faults }] of CASES.entries()) {
    // @wasmer/wasi is slow to start, so under it each case tries only one kind, a different one from case to case.
    const [kinds, seeds] = runtime === "node" ? [all, SEEDS] : [[all[at % all.length]!], 1];
    test(`${name} traps in ${faults.join(" or ")} (${runtime})`, async () => {
      const missed: string[] = [];
      for (const kind of kinds) {
        for (let seed = 1; seed <= seeds; ++seed) {
          const { trap, stdout, stderr } = await runProgram(runtime, bugs, { args: [name, kind], seed });
          const found = /rsbmalloc_\w+/.exec(trap?.stack ?? "")?.[0];
          if (found === undefined || !faults.includes(found))
            missed.push(`${kind}, seed ${seed}: ${found ?? trap?.message ?? "no trap"} ${stdout}${stderr}`);
        }
      }
      assert.is(missed.join("\n"), "");
    });
  }

  for (const name of OUT_OF_MEMORY) {
    test(`${name} traps as an access out of bounds (${runtime})`, async () => {
      const { trap } = await runProgram(runtime, bugs, { args: [name, "small"] });
      assert.match(trap?.message ?? "no trap", /out of bounds/);
    });
  }
}

test("rsbmalloc_on_fault is called with the bug and the block before the trap", async () => {
  const { stdout } = await runProgram("node", bugs, { args: ["double_free", "small"] });
  assert.is(stdout, "double free: the block, 0 bytes\n");
  const overflow = await runProgram("node", bugs, { args: ["overflow_letter", "medium"] });
  assert.is(overflow.stdout, "write past the end or before the start of a block: the block, 3000 bytes\n");
});

test.run();
