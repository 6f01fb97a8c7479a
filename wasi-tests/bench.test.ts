/** The benchmarks: trace files, the check of an allocator's answers, instruction counts, reports, and missing tools. */
import { copyFileSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { mispredictions, predictor, reportBranches } from "../bench/branches.ts";
import { measureBugs } from "../bench/bugs.ts";
import { countCalls } from "../bench/calls.ts";
import { measureEmscripten } from "../bench/emscripten/emscripten.ts";
import { sample } from "../bench/emscripten/sampler.ts";
import { COUNTER, countInstructions } from "../bench/instructions.ts";
import { verify } from "../bench/memory.ts";
import { linked, peer, type Peer } from "../bench/peers/peers.ts";
import { htmlReport } from "../bench/report/html.ts";
import { tables } from "../bench/report/tables.ts";
import type { Results } from "../bench/results.ts";
import { TRACES, workloads } from "../bench/workloads/catalog.ts";
import { random } from "../bench/workloads/random.ts";
import { synthetic, syntheticNames } from "../bench/workloads/synthetic.ts";
import { DamagedTrace, decodeTrace, encodeTrace } from "../bench/workloads/trace-file.ts";
import { Op, kindAndSlot, recorder, type Workload } from "../bench/workloads/workload.ts";
import { HEADER } from "../npm/binary-format.ts";
import { ROOT } from "../tools/command.ts";
import { assemble } from "./support-wat.ts";
import { needs, runScript, temporaryFolder, type Outcome } from "./support.ts";

const FOLDER = temporaryFolder();

/** A workload with every kind of call, on blocks of a few sizes. */
function everyCall(): Workload {
  const to = recorder();
  const blocks = Array.from({ length: 100 }, (_, i) => to.malloc(i * 3));
  for (let i = 0; i < 30; i++) to.realloc(blocks[i]!, 100 + i);
  for (const block of blocks.slice(0, 40)) to.free(block);
  for (let i = 1; i < 20; i++) to.calloc(i * 10);
  for (let i = 0; i < 9; i++) to.aligned(2 ** i, 100);
  return to.finish("every-call", "synthetic", "every call");
}

/** Encodes a workload as a trace file, and decodes it again. */
const throughFile = (workload: Workload): Workload => decodeTrace(encodeTrace(workload)).unpack();

test("a workload is read back from a trace file as it was written", () => {
  const call = fc.oneof(
    fc.record({ kind: fc.constantFrom("malloc", "calloc"), size: fc.nat({ max: 0xffff_ffff }) }),
    fc.record({ kind: fc.constant("aligned"), size: fc.nat({ max: 0x7ff_ffff }), log2: fc.nat({ max: 31 }) }),
    fc.record({ kind: fc.constantFrom("free", "realloc"), size: fc.nat(), which: fc.nat() }),
  );
  fc.assert(
    fc.property(fc.array(call, { maxLength: 60 }), (calls) => {
      const to = recorder();
      const alive: number[] = [];
      for (const { kind, size, ...more } of calls) {
        const at = "which" in more && alive.length > 0 ? more.which % alive.length : undefined;
        if (kind === "malloc") alive.push(to.malloc(size));
        else if (kind === "calloc") alive.push(to.calloc(size));
        else if ("log2" in more) alive.push(to.aligned(2 ** more.log2, size));
        else if (at !== undefined && kind === "realloc") to.realloc(alive[at]!, size);
        else if (at !== undefined) to.free(alive.splice(at, 1)[0]!);
      }
      const workload = to.finish("random", "small", "random calls");
      assert.equal(throughFile(workload), workload);
    }),
  );
});

test("every synthetic workload frees all blocks that it allocates", () => {
  for (const { ops } of [everyCall(), ...syntheticNames.map(synthetic)]) {
    let alive = 0;
    for (let i = 0; i < ops.length; i += 2) {
      const [kind] = kindAndSlot(ops[i]!);
      if (kind === Op.free) alive--;
      else if (kind !== Op.realloc) alive++;
    }
    assert.is(alive, 0);
  }
});

test("a synthetic workload is the same every time it is made", () => {
  assert.equal(synthetic("skewed-8k"), synthetic("skewed-8k"));
});

test("decodeTrace throws DamagedTrace, wherever a trace file is damaged", () => {
  const bytes = encodeTrace(everyCall());
  for (let at = 0; at < bytes.length; at += 7) {
    const damaged = Uint8Array.from(bytes, (byte, i) => (i === at ? byte ^ 0x10 : byte));
    assert.throws(
      () => decodeTrace(damaged),
      (error: unknown) => error instanceof DamagedTrace,
    );
  }
  assert.throws(
    () => decodeTrace(bytes.subarray(0, bytes.length - 1)),
    (error: unknown) => error instanceof DamagedTrace,
  );
});

test("a damaged trace file is left out with one line, and the others are used", () => {
  const folder = path.join(FOLDER, "traces");
  mkdirSync(folder);
  copyFileSync(path.join(TRACES, "cmark.trace.br"), path.join(folder, "cmark.trace.br"));
  writeFileSync(path.join(folder, "bad.trace.br"), "no trace at all");
  const lines: string[] = [];
  const names = workloads(["small"], folder, (line) => lines.push(line)).map(({ name }) => name);
  assert.equal(names, ["cmark"]);
  assert.is(lines.length, 1);
  assert.match(lines[0]!, /bad\.trace\.br is left out: not brotli data, or cut short; make traces/);
});

test("every recorded trace can be read and has the name of its file", () => {
  for (const file of readdirSync(TRACES)) {
    const trace = decodeTrace(readFileSync(path.join(TRACES, file)));
    assert.is(`${trace.name}.trace.br`, file);
    assert.ok(trace.unpack().ops.length > 2000);
  }
});

const broken = (number: number): Peer => {
  const { link } = linked("broken", [path.join(ROOT, "wasi-tests", "programs", "broken-malloc.c")]);
  return {
    name: "broken",
    link: (program) => link({ ...program, flags: [...(program.flags ?? []), `-DBROKEN=${number}`] }),
  };
};

test("verify accepts sound allocators", async () => {
  assert.type(await verify(everyCall(), broken(0)), "number");
  const dlmalloc = await peer("dlmalloc");
  for (const workload of workloads(["cmark", "calloc-aligned", "vectors"]))
    assert.type(await verify(workload, dlmalloc), "number");
});

for (const [number, fault] of [
  [1, /overlap/],
  [2, /NULL \(call 49, malloc\)/],
  [3, /misaligned.*call 49/],
  [4, /outside.*call 49/],
  [5, /not zero.*calloc/],
  [6, /lost the block's contents.*realloc/],
] as const) {
  test(`verify reports an allocator that is broken: ${fault.source}`, async () => {
    assert.match(String(await verify(everyCall(), broken(number))), fault);
  });
}

async function counted(wat: string, without: readonly string[] = []) {
  const counting = countInstructions(assemble(wat, { bulk_memory: true }), without);
  const module = await WebAssembly.compile(Uint8Array.from(counting));
  const { exports } = await WebAssembly.instantiate(module);
  const counter = exports[COUNTER] as WebAssembly.Global<"i32">;
  return {
    count(name: string, ...args: number[]) {
      const before = counter.value;
      (exports[name] as CallableFunction)(...args);
      return counter.value - before;
    },
  };
}

test("the instruction counter counts what is executed, through loops, branches and calls", async () => {
  const { count } = await counted(`(module
    (func $two (result i32) i32.const 1 i32.const 2 i32.add)
    (func (export "straight") (result i32) call $two)
    (func (export "loop") (param i32)
      (loop
        local.get 0 i32.const 1 i32.sub local.tee 0
        br_if 0))
    (func (export "choose") (param i32) (result i32)
      local.get 0
      (if (result i32) (then i32.const 1) (else i32.const 1 i32.const 2 i32.add)))
    (func (export "table") (param i32) (result i32)
      (block (block local.get 0 br_table 0 1) i32.const 10 return)
      i32.const 20 i64.const 7 drop))`);
  assert.is(count("straight"), 4);
  assert.is(count("loop", 1), 5);
  assert.is(count("loop", 100), 500);
  assert.is(count("choose", 1), 3);
  assert.is(count("choose", 0), 5);
  assert.is(count("table", 0), 4);
  assert.is(count("table", 1), 5);
});

test("the instruction counter adds the bytes of memory.fill and memory.copy, and skips exempt functions", async () => {
  const { count } = await counted(
    `(module (memory 1)
      (func (export "fill") (param i32) i32.const 0 i32.const 0 local.get 0 memory.fill)
      (func (export "copy") (param i32) i32.const 8 i32.const 0 local.get 0 memory.copy)
      (func (export "exempt") i32.const 0 drop))`,
    ["exempt"],
  );
  assert.is(count("fill", 0), 4);
  assert.is(count("fill", 1600), 104);
  assert.is(count("copy", 32), 6);
  assert.is(count("exempt"), 0);
});

test("the instruction counts of a workload are the same in every run", async () => {
  const dlmalloc = await peer("dlmalloc");
  const first = await countCalls(everyCall(), dlmalloc);
  assert.equal(await countCalls(everyCall(), dlmalloc), first);
  assert.ok(first.mean > 0 && first.slowest >= first.mean && first.worst > 0);
});

test("each branch reports its condition, except those of one function, and the module still works", async () => {
  const { module, count } = await reportBranches(
    assemble(`(module
      (import "bench" "limit" (func $limit (result i32)))
      (func $loops (param i32) (result i32) (local i32)
        (loop
          local.get 1 i32.const 1 i32.add local.tee 1
          local.get 0 i32.lt_u
          br_if 0)
        local.get 1
        (if (result i32) (then call $limit) (else i32.const -1)))
      (func (export "replay") (param i32) (result i32)
        local.get 0
        (if (result i32) (then local.get 0 call $loops) (else i32.const -2))))`),
    "replay",
  );
  assert.is(count, 2);
  const reported: string[] = [];
  const bench = {
    limit: () => 7,
    branch(condition: number, index: number) {
      reported.push(`${index}:${condition}`);
      return condition;
    },
  };
  const { instance } = await WebAssembly.instantiate(Uint8Array.from(module), { bench });
  assert.is((instance.exports.replay as CallableFunction)(3), 7);
  assert.equal(reported, ["0:1", "0:1", "0:0", "1:3"]);
  assert.is((instance.exports.replay as CallableFunction)(0), -2);
  assert.is(reported.length, 4);
});

test("the predictor learns a pattern and what other branches foretell, but not what is random", () => {
  const rng = random(1);
  const [steady, alternating, first, same, chance] = [0, 1, 2, 3, 4];
  const outcomes = (index: number, condition: (i: number) => boolean, before?: number): number => {
    const { branch, missed } = predictor(5);
    let early = 0;
    for (let i = 0; i < 4000; i++) {
      if (i === 2000) early = missed();
      const isTaken = condition(i);
      if (before !== undefined) branch(Number(isTaken), before);
      branch(Number(isTaken), index);
    }
    return missed() - early;
  };
  assert.is(
    outcomes(steady, () => true),
    0,
  );
  assert.is(
    outcomes(alternating, (i) => i % 2 === 0),
    0,
  );
  const isRandom = () => rng.chance(0.5);
  const alone = outcomes(chance, isRandom);
  assert.ok(alone > 800 && alone < 1200, `${alone} of 2,000 random outcomes were mispredicted`);
  // Of two branches with the same condition, only the first can be mispredicted.
  const both = outcomes(same, isRandom, first);
  assert.ok(both < 1200, `${both} were mispredicted, though the first foretells the second`);
});

test("mispredictions of a workload are the same in every run", async () => {
  const dlmalloc = await peer("dlmalloc");
  const first = await mispredictions(everyCall(), dlmalloc);
  assert.ok(first >= 0 && first < 20);
  assert.is(await mispredictions(everyCall(), dlmalloc), first);
});

const RESULTS: Results = {
  peers: ["rsbmalloc", "dlmalloc", "mimalloc"],
  engines: [{ name: "node", title: "V8" }],
  sizes: {},
  workloads: [
    {
      name: "one",
      about: "a <first> workload",
      group: "small",
      calls: 10,
      peaks: { rsbmalloc: 65536, dlmalloc: 131072, mimalloc: "returned NULL (call 3, malloc)" },
      costs: {},
      mispredictions: {},
      times: { node: { rsbmalloc: 2, dlmalloc: 8 } },
    },
    {
      name: "two",
      about: "a second one",
      group: "small",
      calls: 10,
      peaks: { rsbmalloc: 65536, dlmalloc: 65536, mimalloc: 65536 },
      costs: {},
      mispredictions: {},
      times: { node: { rsbmalloc: 3, dlmalloc: 3, mimalloc: 1.5 } },
    },
  ],
};

test("the tables have ratios to the best peer, geometric means, and what failed", () => {
  const [times, memory] = tables(RESULTS);
  assert.equal(times!.rows, [
    ["one", "2.00", "8.00", "-", "0.25"],
    ["two", "3.00", "3.00", "1.50", "2.00"],
    ["rsbmalloc / peer, small", "1.00", "0.50", "2.00", ""],
  ]);
  assert.equal(memory!.rows[0], ["one", "64", "128", "fails", "0.50"]);
  assert.equal(memory!.faults, ["mimalloc on one: returned NULL (call 3, malloc)"]);
});

test("the HTML report is self-contained, escapes its texts, and shows plots and what failed", () => {
  const html = htmlReport(RESULTS);
  assert.is(html.match(/<svg/g)?.length, 2);
  assert.not.match(html, /<script|<link|\ssrc=|<first>/);
  assert.match(html, "&lt;first&gt;");
  assert.match(html, /mimalloc on one: returned NULL/);
});

test("programs built with Emscripten have their own tables, after the others", () => {
  const emscripten = {
    title: "emcc 1.2.3",
    peers: ["rsbmalloc", "dlmalloc"],
    engines: [{ name: "chromium", title: "Chromium 4" }],
    programs: [
      {
        name: "one",
        about: "a program",
        group: "small" as const,
        sizes: { rsbmalloc: 3000, dlmalloc: 4000 },
        peaks: { rsbmalloc: 4096, dlmalloc: "Error: exited with code 1" },
        times: { chromium: { rsbmalloc: 2, dlmalloc: "Error: exited with code 1" } },
      },
    ],
  };
  const found = tables({ ...RESULTS, emscripten });
  assert.equal(found.slice(0, 2), tables(RESULTS));
  const [times, peaks, sizes] = found.slice(2);
  assert.match(times!.title, /emcc 1\.2\.3, Chromium 4/);
  assert.equal(times!.rows[0], ["one", "2.00", "fails", "-"]);
  assert.equal(peaks!.faults, ["dlmalloc on one: Error: exited with code 1"]);
  assert.equal(sizes!.rows, [
    ["one", "3000", "4000", "0.75"],
    ["rsbmalloc / peer, small", "1.00", "0.75", ""],
  ]);
});

test("workloads with threads have tables of times, heaps and loop times, and failures are listed", () => {
  const threads = {
    title: "emcc 1.2.3",
    peers: ["-mt", "dlmalloc", "no threads"],
    rows: [
      { name: "spin, 1", about: "the control", group: "threads" as const, times: {}, loop: 3, heaps: {} },
      {
        name: "local, 1",
        about: "a workload",
        group: "threads" as const,
        times: { "-mt": 20, dlmalloc: 80, "no threads": 10 },
        loop: 5,
        heaps: { "-mt": 2048, dlmalloc: 1024, "no threads": 1024 },
      },
      {
        name: "local, 2",
        about: "a workload",
        group: "threads" as const,
        times: { "-mt": 20, dlmalloc: "Error: exited with code 1" },
        heaps: { "-mt": 4096 },
      },
    ],
    sizes: { "seven functions": { "-mt": 6000, dlmalloc: 12_000 }, "keys apart": { "-mt": 5000 } },
  };
  const [times, heaps, loop, sizes] = tables({ ...RESULTS, threads }).slice(tables(RESULTS).length);
  assert.match(times!.title, /emcc 1\.2\.3/);
  assert.equal(times!.rows, [
    ["local, 1", "20.0", "80.0", "10.0", "2.00"],
    ["local, 2", "20.0", "fails", "-", "-"],
    ["-mt / peer, threads", "1.00", "0.25", "2.00", ""],
  ]);
  assert.equal(times!.faults, ["dlmalloc on local, 2: Error: exited with code 1"]);
  assert.equal(heaps!.rows[1], ["local, 2", "4", "-", "-", "-"]);
  assert.equal(loop!.rows, [
    ["spin, 1", "3.0"],
    ["local, 1", "5.0"],
    ["local, 2", "-"],
  ]);
  assert.equal(sizes!.header, ["", "-mt", "dlmalloc"]);
  assert.equal(sizes!.rows, [
    ["seven functions", "6000", "12000"],
    ["keys apart", "5000", "-"],
  ]);
});

/** Stands in for Emscripten's JavaScript of a program whose main returns `status`. Each run adds its name to `turns`. */
const fakeProgram = (name: string, status: number) => ({
  malloc: name,
  wasm: "wasm",
  script: `data:text/javascript,${encodeURIComponent(`export default async () => ({
    HEAPU8: new Uint8Array(100),
    _place_input: (length) => 50,
    _main() { return globalThis.turns.push("${name}") && ${status}; },
    _heap_bytes: () => 4096,
  });`)}`,
});

test("programs run in turns, a different one first in each round, and one that fails is not run again", async () => {
  const turns: string[] = [];
  Object.assign(globalThis, { turns });
  const modules = [fakeProgram("a", 0), fakeProgram("b", 1), fakeProgram("c", 0)];
  const runs = await sample({ input: "input", samples: 3, modules }, async () => HEADER);
  assert.equal(turns, ["a", "b", "c", "c", "a", "c", "a"]);
  assert.is(runs["b"], "Error: exited with code 1");
  for (const name of ["a", "c"]) {
    const { time, heap } = runs[name] as { time: number; heap: number };
    assert.ok(time >= 0);
    assert.is(heap, 4096);
  }
});

needs("emcc", "chromium")("a program built by emcc is measured in Node and in Chromium", async () => {
  const mallocs = ["rsbmalloc", "dlmalloc", "nosuch"];
  const { peers, engines, programs } = (await measureEmscripten(["stl"], mallocs, true))!;
  assert.equal(peers, ["rsbmalloc", "dlmalloc"]);
  assert.equal(
    engines.map(({ name }) => name),
    ["node", "chromium"],
  );
  const [stl] = programs;
  for (const name of peers) {
    for (const engine of ["node", "chromium"]) assert.type(stl!.times[engine]![name], "number");
    assert.ok(Number(stl!.peaks[name]) > 1 << 20, `${name}: the heap has only ${stl!.peaks[name]} bytes`);
    assert.ok(stl!.sizes[name]! > 20_000, `${name}: the module has only ${stl!.sizes[name]} bytes`);
  }
  assert.is.not(stl!.sizes["rsbmalloc"], stl!.sizes["dlmalloc"]);
});

test("measureBugs has rows for the allocators asked for; the hardened library catches every bug, as docs/hardened.md says", async () => {
  const { peers, rows } = await measureBugs(["hardened", "dlmalloc"]);
  assert.equal(peers, ["hardened", "dlmalloc"]);
  const missed = rows.filter(({ caught }) => !caught.hardened).map(({ name }) => name);
  assert.equal(missed, []);
  assert.ok(rows.some(({ caught }) => !caught.dlmalloc));
  const page = readFileSync(path.join(ROOT, "docs", "hardened.md"), "utf8");
  const [, bugs, caught] = /^\| all +\| +(\d+) \| +(\d+) \|/m.exec(page)!;
  assert.equal(
    [bugs, caught].map(Number),
    [rows.length, rows.length],
    "docs/hardened.md has other numbers of bugs and of bugs caught",
  );
  const table = tables({ peers: [], engines: [], workloads: [], sizes: {}, bugs: { peers, rows } }).at(-1)!;
  assert.equal(table.header, ["", ...peers]);
  assert.is(table.rows.length, rows.length + 1);
});

const bench = (...args: readonly string[]): Promise<Outcome> => runScript("bench/main.ts", args);

/** Runs the benchmark with only the programs in a folder. */
const benchIn = (folder: string, ...args: readonly string[]): Promise<Outcome> =>
  runScript("bench/main.ts", args, { ...process.env, PATH: folder });

const NO_PROGRAMS = path.join(ROOT, "docs");

test("the benchmark leaves out unknown allocators and engines, with a line for each", async () => {
  const args = ["--only", "tiny", "--peers", "nosuch,dlmalloc", "--engines", "nosuch", "--quick", "--json"];
  const { code, stdout, stderr } = await bench(...args);
  assert.is(code, 0);
  assert.equal(Object.keys((JSON.parse(stdout) as Results).workloads[0]!.peaks), ["dlmalloc"]);
  assert.match(stderr, /^bench: allocator nosuch is left out: no such allocator/m);
  assert.match(stderr, /^bench: engine nosuch is left out: no such engine/m);
});

test("without emcc, the section for threads is left out with one line", async () => {
  const { code, stdout, stderr } = await benchIn(NO_PROGRAMS, "--measure", "threads", "--json");
  assert.is(code, 0);
  assert.is((JSON.parse(stdout) as Results).threads, undefined);
  assert.match(stderr, /^bench: the section for threads is left out: emcc was not found: install/);
});

test("without emcc, the Emscripten section is left out with one line", async () => {
  const args = ["--measure", "emscripten", "--only", "stl,tiny", "--json"];
  const { code, stdout, stderr } = await benchIn(NO_PROGRAMS, ...args);
  assert.is(code, 0);
  assert.is((JSON.parse(stdout) as Results).emscripten, undefined);
  const [line, ...others] = stderr.trim().split("\n");
  assert.match(line!, /^bench: the Emscripten section is left out: emcc was not found: install/);
  assert.is(others.length, 1);
});

needs("emcc")("without Chromium, the Emscripten section has only Node, and one line says so", async () => {
  // These scripts run Emscripten's tools with the full PATH, since they need other programs.
  for (const name of ["emcc", "em++"]) {
    const script = `#!/bin/sh\nPATH="${process.env.PATH}" exec ${name} "$@"\n`;
    writeFileSync(path.join(FOLDER, name), script, { mode: 0o755 });
  }
  const args = ["--measure", "emscripten", "--only", "stl", "--peers", "dlmalloc", "--quick", "--json"];
  const { stdout, stderr } = await benchIn(FOLDER, ...args);
  assert.equal((JSON.parse(stdout) as Results).emscripten!.engines.length, 1);
  assert.match(stderr, /^bench: Chromium is left out: chromium was not found: install/m);
});

test("the commands refuse wrong options and arguments with one line", async () => {
  const cases: [string, string[], RegExp][] = [
    ["main", ["--mesure", "calls"], /unknown option '--mesure'; see make bench BENCH="--help"/],
    ["main", ["--only"], /option '--only <names>' argument missing/],
    ["main", ["--only", ","], /'--only <names>' .*no name/],
    ["main", ["--library", "--verify"], /'--library .* looks like an option/],
    ["main", ["--only", "tiny", "--only", "cmark"], /'--only .* more than once/],
    ["main", ["calls"], /too many arguments/],
    ["record", ["--quick"], /unknown option '--quick'; see make traces TRACES="--help"/],
  ];
  for (const [command, args, message] of cases) {
    const { code, stdout, stderr } = await runScript(`bench/${command}.ts`, args);
    assert.is(code, 1);
    assert.is(stdout, "");
    assert.match(stderr, message);
    assert.match(stderr, /^.*\n$/);
  }
});

test("the benchmark refuses unknown workloads, measurements and libraries with one line", async () => {
  for (const args of [
    ["--only", "nosuch"],
    ["--measure", "nosuch"],
    ["--library", "nosuch"],
  ]) {
    const { code, stdout, stderr } = await bench(...args, "--peers", "dlmalloc");
    assert.is(code, 1);
    assert.is(stdout, "");
    assert.match(stderr, /^.*nosuch.*\n$/);
  }
});

test.run();
