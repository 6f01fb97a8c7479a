/** The modules that `rsbmalloc swap` refuses, with one line that says what to do, and the output of the command. */
import { readFile } from "node:fs/promises";
import path from "node:path";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  EXTERN,
  FUNCREF,
  HEADER,
  SECTION,
  customSection,
  flatten,
  section,
  text,
  vector,
} from "../npm/binary-format.ts";
import { swap, type SwapReport } from "../npm/swap/swap.ts";
import { WASM_PAGE } from "../npm/webassembly.ts";
import { build, compileObject, findCompiler } from "../tools/compiler.ts";
import { library } from "../tools/libraries.ts";
import { runProgram } from "../tools/wasi.ts";
import { EXPORTED, buildMapped } from "./support-emscripten.ts";
import { assemble } from "./support-wat.ts";
import {
  KEEP_NAMES,
  needs,
  needsWizer,
  readBytes,
  refusal,
  rsbmalloc,
  takeSnapshot,
  temporaryFolder,
} from "./support.ts";

const PROGRAM = "wasi-tests/programs/swap.c";

const folder = temporaryFolder();

const compiler = await findCompiler("npm");
const withEmscripten = needs("emcc");

function buildProgram(...linkFlags: string[]): Promise<string> {
  return build(compiler, { inputs: [PROGRAM], flags: ["-O1"], linkFlags: [KEEP_NAMES, ...linkFlags] });
}

function wat(source: string, names = true): Uint8Array<ArrayBuffer> {
  return assemble(source, { threads: true }, { write_debug_names: names });
}

interface Fake {
  /** The address where the malloc's memory starts. */
  readonly start?: number;
  readonly memory?: string;
  /** The word in front of each block; 35 is what dlmalloc writes there for a block of 24 bytes. */
  readonly mark?: number;
  readonly free?: string;
  readonly others?: string;
  /** Whether functions have their names. */
  readonly names?: boolean;
}

const FREE = '(func $free (export "free") (param i32) (global.set $freed (local.get 0)))';
const GROW = '(func (export "grow") (drop (memory.grow (i32.const 1))))';

/** Makes a module with a malloc that marks its blocks like dlmalloc, and hands out the block freed last again. */
function fake({
  start = 1024,
  memory = '(memory (export "memory") 1)',
  mark = 35,
  free = FREE,
  others = GROW,
  names = true,
}: Fake = {}): Uint8Array<ArrayBuffer> {
  return wat(
    `(module ${memory}
    (global $next (mut i32) (i32.const ${start}))
    (global $freed (mut i32) (i32.const 0))
    (func $malloc (export "malloc") (param i32) (result i32) (local $block i32)
      (local.set $block (global.get $freed))
      (global.set $freed (i32.const 0))
      (if (local.get $block) (then (return (local.get $block))))
      (local.set $block (i32.add (global.get $next) (i32.const 8)))
      (global.set $next (i32.add (local.get $block) (i32.and (i32.add (local.get 0) (i32.const 15)) (i32.const -8))))
      (i32.store (i32.sub (local.get $block) (i32.const 4)) (i32.const ${mark}))
      (local.get $block))
    ${free} ${others})`,
    names,
  );
}

type Functions = Record<string, (value: number) => number>;

function instantiate(module: Uint8Array<ArrayBuffer>): { functions: Functions; memory: WebAssembly.Memory } {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module));
  return { functions: exports as unknown as Functions, memory: exports["memory"] as WebAssembly.Memory };
}

async function refuses(
  bytes: Uint8Array<ArrayBuffer>,
  why: RegExp,
  ...names: readonly ReadonlyMap<string, number>[]
): Promise<void> {
  assert.match(await refusal(swap(bytes, ...names)), why);
}

test("swap finds malloc and free by their exports and exchanges them", async () => {
  const { bytes, report } = await swap(fake());
  assert.equal(report.replaced.map(({ name }) => name).sort(), ["free", "malloc"]);
  const { functions } = instantiate(bytes);
  const block = functions["malloc"]!(100);
  assert.ok(block >= report.heapBase);
  functions["free"]!(block);
  assert.ok(functions["malloc"]!(1) < WASM_PAGE);
});

test("a memory that is too small for the new state starts with one more page", async () => {
  const { bytes, report } = await swap(fake({ start: WASM_PAGE - 64 }));
  assert.is(report.state, WASM_PAGE);
  const { functions, memory } = instantiate(bytes);
  assert.is(memory.buffer.byteLength, 2 * WASM_PAGE);
  assert.ok(functions["malloc"]!(10) > WASM_PAGE);
});

test("an exported sbrk serves both the new malloc and other callers", async () => {
  const others = `
    (global $break (mut i32) (i32.const 0))
    (func $sbrk (export "sbrk") (param $by i32) (result i32) (local $old i32)
      (if (i32.eqz (i32.load (i32.const 512))) (then (i32.store (i32.const 512) (i32.const 2048))))
      (local.set $old (i32.load (i32.const 512)))
      (if (i32.gt_u (i32.add (local.get $old) (local.get $by)) (i32.mul (memory.size) (i32.const ${WASM_PAGE})))
        (then (drop (memory.grow (i32.add (i32.shr_u (local.get $by) (i32.const 16)) (i32.const 1))))))
      (i32.store (i32.const 512) (i32.add (local.get $old) (local.get $by)))
      (local.get $old))`;
  const { bytes, report } = await swap(fake({ start: 2048, others }));
  assert.is(report.source, "sbrk");
  const { functions } = instantiate(bytes);
  const block = functions["malloc"]!(1000);
  const own = functions["sbrk"]!(WASM_PAGE);
  const next = functions["malloc"]!(300_000);
  assert.ok(
    block >= report.heapBase && block + 1000 <= own,
    `the block at ${block} overlaps the memory that sbrk gave at ${own}`,
  );
  assert.ok(
    next >= own + WASM_PAGE || next + 300_000 <= own,
    `the block at ${next} overlaps the memory that sbrk gave at ${own}`,
  );
});

test("swap refuses files that are not modules of a program", async () => {
  await refuses(new TextEncoder().encode("int main(void);"), /not a WebAssembly file/);
  await refuses(new Uint8Array(), /not a WebAssembly file/);
  await refuses(Uint8Array.from([0, 0x61, 0x73, 0x6d, 13, 0, 1, 0]), /component: extract its core module/);
  await refuses(
    flatten([HEADER, 1, 5, 0]),
    /Node v\S+ cannot compile the module .*: the file is damaged, or needs a newer Node/,
  );
  await refuses(await readBytes(await compileObject(compiler, PROGRAM)), /object file: link it/);
  await refuses(
    flatten([HEADER, customSection("dylink.0", []), customSection("name", [])]),
    /linked for dynamic linking: link the main module with librsbmallocc\.a/,
  );
  await refuses(wat("(module (func $malloc))"), /has no memory/);
  await refuses(fake({ memory: "(memory 1 2 shared)" }), /shared among threads: link it with .*-mt/);
});

test("swap refuses a module without function names", async () => {
  const stripped = await readBytes(await buildProgram("-Wl,-s"));
  const why =
    /no function names: link it with names \(.*clang --no-wasm-opt\), .*--symbol-map FILE .*--function malloc=INDEX/;
  await refuses(stripped, why);
});

test("swap refuses 64-bit memory as such, whether or not Node can compile the module", async () => {
  const limits = [4, 1];
  const own = section(SECTION.memory, vector([limits]));
  const memory = [text("env"), text("memory"), EXTERN.memory, limits];
  const table = [text("env"), text("table"), EXTERN.table, FUNCREF, 1, 1, 1];
  const imported = section(SECTION.import, vector([table, memory]));
  for (const bytes of [own, imported])
    await refuses(flatten([HEADER, bytes]), /memory is 64-bit: rsbmalloc supports only 32-bit memory/);
});

test("swap tells a malloc that was inlined from missing function names", async () => {
  const program = (names: boolean) => wat('(module (memory 1 1) (func $main (export "main")))', names);
  const why =
    /no function malloc: the optimizer .* link again with it exported \(.*\), or give its index with --function malloc=INDEX$/;
  await refuses(program(true), why);
  await refuses(program(false), why, new Map([["main", 0]]));
  await refuses(program(false), /no function names/);
});

test("swap refuses a malloc if one of its functions is missing, imported or of another type", async () => {
  await refuses(
    fake({ free: "" }),
    /no function free: the optimizer may have inlined it; .*, or give its index with --function free=INDEX/,
  );
  const wrong = '(func $free (export "free") (param i32 i32))';
  await refuses(
    fake({ free: wrong }),
    /function 1 \(free\) has signature \(i32, i32\).*-sEXPORTED_FUNCTIONS/,
  );
  const imported =
    '(module (import "env" "malloc" (func $malloc (param i32) (result i32))) (memory 1 1) (func $free (param i32)))';
  await refuses(wat(imported), /malloc is an import: replace it in the module that defines it/);
  await refuses(fake({ others: "" }), /it is unknown how its memory grows: give --function sbrk=INDEX/);
});

test("swap refuses a malloc that does not behave like dlmalloc or emmalloc", async () => {
  await refuses(fake({ mark: 0 }), /neither dlmalloc nor emmalloc: link it with rsbmalloc/);
  // emmalloc behaves like this without its constructor, which can be found only by its name.
  await refuses(fake({ mark: 0, names: false }), /whether it is emmalloc: .*--profiling-funcs/);
  const idle = '(func $free (export "free") (param i32))';
  await refuses(fake({ free: idle }), /free does not free what its malloc allocated: .*--function/);
  const module = (body: string) =>
    wat(`(module (memory 1 1) (func $malloc (param i32) (result i32) ${body}) (func $free (param i32)))`);
  await refuses(module("unreachable"), /malloc fails in a fresh instance .*: name the right function/);
  await refuses(module("(i32.const 0)"), /malloc has no memory at the start/);
  await refuses(module("(i32.const -8)"), /malloc has no memory at the start/);
});

test("swap refuses a malloc that does not return when it is tried", async () => {
  const forever = '(func $free (export "free") (param i32) (loop (br 0)))';
  await refuses(fake({ free: forever }), /malloc did not return within 10 seconds/);
});

test("swap refuses names for functions that the module does not have or that have another type", async () => {
  await refuses(fake(), /no function 99 for malloc: the module has 3 functions/, new Map([["malloc", 99]]));
  await refuses(fake(), /function 2 \(malloc\) has signature/, new Map([["malloc", 2]]));
});

test("swap refuses function names given by hand that it cannot use", async () => {
  const by = (...names: [name: string, index: number][]) => new Map(names);
  const imported = '(import "env" "f" (func $f (param i32) (result i32)))';
  const module = fake({ memory: `${imported} (memory (export "memory") 1)` });
  const none = by();
  await refuses(
    module,
    /function 0 \(malloc\) is an import: name a function that the module defines/,
    none,
    by(["malloc", 0]),
  );
  await refuses(
    module,
    /unknown function name mallok: use malloc, .* or another one from docs\/swap\.md/,
    none,
    by(["mallok", 1]),
  );
  await swap(module, by(["mallok", 1]), by(["malloc", 1], ["free", 2]));
  // A name given by hand counts even if the function is known by another one.
  for (const map of [none, by(["malloc", 1])])
    await refuses(module, /function 1 \(calloc\) has signature/, map, by(["calloc", 1]));
});

test("docs/swap.md lists the function names that can be given by hand", async () => {
  const [, section] = /### Names\n(.*?)\n##/s.exec(await readFile("docs/swap.md", "utf8")) ?? [];
  assert.ok(section, "the page has no section Names");
  const items = section.split(/^- /m).slice(1);
  const lists = items.map((item) => [...item.matchAll(/`(\w+)`/g)].map(([, name]) => name!));
  const [withPrefix, ...others] = lists as [string[], ...string[][]];
  const [prefix, ...plain] = withPrefix;
  assert.is(prefix, "dl");
  const listed = new Set([...plain, ...plain.map((name) => `dl${name}`), ...others.flat()]);
  const core = new WebAssembly.Module(await readBytes("lib/swap/core-grow.wasm"));
  for (const { name } of WebAssembly.Module.exports(core)) assert.ok(listed.has(name), name);
  // Functions are looked at only if all names are known.
  const byHand = new Map([...listed].map((name) => [name, 2]));
  await refuses(fake(), /function 2 \(.*\) has signature/, new Map(), byHand);
});

test("swap refuses a memory that has no room for the new state and cannot grow", async () => {
  const memory = '(memory (export "memory") 1 1)';
  await refuses(fake({ start: WASM_PAGE - 64, memory }), /no room for the new malloc's state: .*larger/);
});

test("swap refuses a sbrk that has no name and other callers", async () => {
  const module = wat(`(module (memory (export "memory") 1)
    (global $freed (mut i32) (i32.const 0))
    (func $take (export "take") (param i32) (result i32) (local i32)
      (local.set 1 (i32.load (i32.const 512)))
      (i32.store (i32.const 512) (i32.add (local.get 1) (local.get 0)))
      (drop (memory.grow (i32.const 0)))
      (i32.add (local.get 1) (i32.const 1024)))
    (func $malloc (export "malloc") (param i32) (result i32) (local $block i32)
      (local.set $block (global.get $freed))
      (global.set $freed (i32.const 0))
      (if (local.get $block) (then (return (local.get $block))))
      (local.set $block (i32.add (call $take (i32.add (local.get 0) (i32.const 8))) (i32.const 8)))
      (i32.store (i32.sub (local.get $block) (i32.const 4)) (i32.const 35))
      (local.get $block))
    ${FREE})`);
  await refuses(module, /function 0 \(take\) takes memory from where .*--function sbrk=0.*_sbrk/);
});

test("swap refuses a remaining function that uses the old malloc's data or its blocks' headers", async () => {
  const counting =
    '(func $free (export "free") (param i32) (i32.store (i32.const 512) (local.get 0)) (global.set $freed (local.get 0)))';
  const freed = '(func $last_freed (export "last_freed") (result i32) (i32.load (i32.const 512)))';
  const why = /function 2 \(last_freed\) uses the old malloc's data at 512, .*-sEXPORTED/;
  await refuses(fake({ free: counting, others: freed + GROW }), why);
  const header = (code: string) =>
    fake({ others: `(func $usable (export "usable") (param i32) (result i32) ${code}) ${GROW}` });
  const load = "(i32.load (i32.sub (local.get 0) (i32.const 4)))";
  await refuses(
    header(`(i32.and ${load} (i32.const 3))`),
    /function 2 \(usable\) reads the header of a block/,
  );
  await refuses(
    header(`(i32.sub ${load} (i32.const 8))`),
    /function 2 \(usable\) reads the header of a block/,
  );
});

/** A module with a function 2 that uses the old malloc's data, and has only the names that it gets from `kept`. */
function remaining(kept: string, names = false): Uint8Array<ArrayBuffer> {
  const store = "(i32.store (i32.const 512) (local.get 0)) (global.set $freed (local.get 0))";
  return fake({
    free: `(func $free (export "free") (param i32) ${store})`,
    others: `(func $last (result i32) (i32.load (i32.const 512))) ${kept} ${GROW}`,
    names,
  });
}

test("swap asks for the name of a remaining function only if it has none that tells what it is", async () => {
  const asks =
    /function 2.* in use there: if the function is part of malloc, name it \(--function NAME=2\); if malloc was/;
  await refuses(remaining('(table (export "table") 1 funcref) (elem (i32.const 0) $last)'), asks);
  // As Emscripten shortens the names of exports.
  await refuses(remaining('(export "e" (func $last))'), asks);
  const told = /in use there: if malloc was inlined into it, link again/;
  await refuses(remaining('(export "last_freed" (func $last))'), told);
  await refuses(remaining('(export "e" (func $last))', true), told);
});

test("swap doubts names given by hand if a part of the old malloc remains", async () => {
  const byHand = new Map([
    ["malloc", 0],
    ["free", 1],
  ]);
  const doubts =
    /in use there: the functions given with --function may be the wrong ones; if malloc was inlined/;
  await refuses(remaining('(export "last_freed" (func $last))'), doubts, new Map(), byHand);
});

test("swap refuses a module whose heap is already in use", async () => {
  await refuses(
    fake({ others: `${GROW}(data (i32.const 2048) "live")` }),
    /heap is already in use: .*snapshot/,
  );
  const moved = `(module (memory 1) (func (drop (memory.grow (i32.const 1)))) (data (i32.const 16) "\\00\\08")
    (func $malloc (param i32) (result i32)
      (i32.store (i32.const 16) (i32.add (i32.load (i32.const 16)) (i32.const 512)))
      (i32.const 4096))
    (func $free (param i32)))`;
  await refuses(wat(moved), /heap is already in use/);
});

needsWizer(test)(
  "swap refuses a snapshot made by Wizer, and accepts the program that it was made from",
  async () => {
    const file = await build(compiler, {
      inputs: ["wasi-tests/programs/swap-snapshot.c"],
      flags: ["-O1", "-fno-builtin"],
      model: "reactor",
      linkFlags: [KEEP_NAMES, "-Wl,--export=prepare,--export=use,--export=malloc,--export=free"],
    });
    await refuses(takeSnapshot(file), /heap is already in use: .*Wizer/);
    const { functions } = instantiate((await swap(await readBytes(file))).bytes);
    assert.is(functions["use"]!(0), 1);
  },
);

test("swap refuses a module whose malloc is already rsbmalloc", async () => {
  const { bytes } = await swap(await readBytes(await buildProgram()));
  await refuses(bytes, /malloc is already rsbmalloc/);
  const linked = await build(compiler, { inputs: [PROGRAM, library("wasm32-wasi")], flags: ["-O1"] });
  await refuses(await readBytes(linked), /already rsbmalloc/);
});

withEmscripten("swap refuses a program into which parts of its malloc were inlined", async () => {
  for (const malloc of ["dlmalloc", "emmalloc"]) {
    const { file, names } = await buildMapped([PROGRAM], ["main"], "-O3", `-sMALLOC=${malloc}`);
    await refuses(await readBytes(file), /uses the old malloc's data at \d+, .*-sEXPORTED_FUNCTIONS/, names);
  }
  const withoutCalloc = EXPORTED.filter((name) => name !== "calloc");
  const { file, names } = await buildMapped([PROGRAM], withoutCalloc, "-O2", "-sMALLOC=dlmalloc");
  await refuses(await readBytes(file), /function \d+ \(main\) reads the header of a block/, names);
});

withEmscripten(
  "swap accepts a program that calls sbrk if sbrk is named, and refuses it otherwise",
  async () => {
    for (const flags of [["-O1"], ["-O3", "-sALLOW_MEMORY_GROWTH=0"]]) {
      const { file, names } = await buildMapped(["wasi-tests/programs/swap-sbrk.c"], EXPORTED, ...flags);
      assert.is((await swap(await readBytes(file), names)).report.source, "sbrk");
      names.delete("sbrk");
      await refuses(
        await readBytes(file),
        /takes memory from where the old malloc got it: .*--function sbrk=/,
        names,
      );
    }
  },
);

// Damage.

/** Matches messages of errors that swap does not throw on purpose: those of JavaScript or of an engine. */
const UNEXPECTED = /undefined|is not a|Cannot read|RuntimeError|Aborted|memory access out of bounds/;

test("swap gives a damaged file a one-line error of its own, or a valid module", async () => {
  const [program, small] = [await readBytes(await buildProgram()), fake()];
  const damage = fc.record({
    original: fc.constantFrom(program, small),
    length: fc.oneof({ weight: 3, arbitrary: fc.constant(1) }, fc.double({ min: 0, max: 1, noNaN: true })),
    flips: fc.array(fc.tuple(fc.double({ min: 0, max: 0.999, noNaN: true }), fc.nat(7)), { maxLength: 4 }),
  });
  await fc.assert(
    fc.asyncProperty(damage, async ({ original, length, flips }) => {
      const bytes = original.slice(0, Math.floor(original.length * length));
      for (const [place, bit] of flips) bytes[Math.floor(bytes.length * place)]! ^= 1 << bit;
      const outcome = await swap(bytes).catch((error: unknown) => error);
      if (outcome instanceof Error) {
        assert.match(outcome.message, /^[^\n]{20,500}$/);
        assert.not.match(outcome.message, UNEXPECTED);
        assert.is(outcome.constructor, Error, outcome.stack);
      } else {
        assert.ok(WebAssembly.validate((outcome as { bytes: Uint8Array<ArrayBuffer> }).bytes));
      }
    }),
    { numRuns: 60, seed: 20 },
  );
});

// The command.

const command = (...args: string[]) => rsbmalloc("swap", ...args);

test("the command writes the module and reports what it did, and --dry-run only reports", async () => {
  const file = await buildProgram();
  const output = path.join(folder, "out.wasm");
  const { stdout, code } = await command(file, "-o", output);
  assert.is(code, 0);
  assert.match(stdout, /^dlmalloc replaced by rsbmalloc\n/);
  assert.match(stdout, /replaced: .*dlmalloc \(\d+\).*\n *removed: .*dispose_chunk/);
  assert.match(stdout, /size: +[\d,]+ B before, [\d,]+ B after\n$/);
  assert.is((await runProgram("node", output)).stdout, (await runProgram("node", file)).stdout);

  const dry = path.join(folder, "dry.wasm");
  const told = await command(file, "-o", dry, "--dry-run", "--json");
  const report = JSON.parse(told.stdout) as SwapReport;
  assert.is(report.allocator, "dlmalloc");
  assert.is(report.after, (await readBytes(output)).length);
  assert.is(await readBytes(dry).catch(() => "not written"), "not written");
});

withEmscripten(
  "the command takes a symbol map, and prefers functions given by hand to those of the map",
  async () => {
    const { file, symbolMap, names } = await buildMapped([PROGRAM], EXPORTED, "-O2", "-sMALLOC=dlmalloc");
    const withMap = await command(file, "--dry-run", "--symbol-map", symbolMap);
    assert.is(withMap.code, 0, withMap.stderr);
    const other = `free=${names.get("__errno_location")}`;
    const wrong = await command(file, "--dry-run", "--symbol-map", symbolMap, "--function", other);
    assert.is(wrong.code, 1);
    assert.match(wrong.stderr, /function \d+ \(free\) has signature/);
    const wanted = ["malloc", "free", "calloc", "realloc", "memalign", "posix_memalign", "aligned_alloc"];
    const each = wanted.flatMap((name) => {
      const index = names.get(name) ?? names.get(`dl${name}`);
      return index === undefined ? [] : ["--function", `${name}=${index}`];
    });
    const sources = ["sbrk", "emscripten_resize_heap"].flatMap((name) =>
      names.has(name) ? ["--function", `${name}=${names.get(name)}`] : [],
    );
    const byHand = await command(file, "--dry-run", ...each, ...sources);
    assert.is(byHand.code, 0, byHand.stderr);
  },
);

test("the command refuses wrong files and options with one line", async () => {
  const file = await buildProgram();
  const cases: [string[], RegExp][] = [
    [[file], /swap needs -o FILE for the new module, or --dry-run/],
    [[file, "-o"], /--output .*missing/],
    [[file, "-o", "a", "-o", "b"], /--output .* given more than once/],
    [[file, "--dry-run", "--function"], /--function .*missing/],
    [["--dry-run", "0"], /cannot read 0/],
    [["no-such.wasm", "--dry-run"], /cannot read no-such\.wasm/],
    [["wasi-tests", "--dry-run"], /cannot read wasi-tests/],
    [[file, "--dry-run", "--symbol-map", "no-such.symbols"], /cannot read no-such\.symbols/],
    [[file, "--dry-run", "--symbol-map", PROGRAM], /swap\.c: not a symbol map: ".*" is not INDEX:NAME/],
    [[file, "--dry-run", "--function", "malloc"], /--function malloc is not of the form NAME=INDEX/],
    [
      ["--dry-run", "--function", "free=1", "--function", "free=2", file],
      /--function free=INDEX is given more/,
    ],
    [[PROGRAM, "--dry-run"], /swap\.c: not a WebAssembly file/],
    [[file, "-o", path.join(folder, "no", "such", "folder")], /cannot write .*folder/],
  ];
  const outcomes = await Promise.all(cases.map(([args]) => command(...args)));
  for (const [i, { stderr, code }] of outcomes.entries()) {
    const [args, message] = cases[i]!;
    assert.is(code, 1, args.join(" "));
    assert.match(stderr, message);
    assert.is(stderr.trim().split("\n").length, 1, stderr);
  }
});

test.run();
