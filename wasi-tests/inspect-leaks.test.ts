/** `--leaks`: the places that allocated blocks which were never freed, by the function names in the module. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { formatHtml, formatText, inspect, type LeakSite } from "../npm/inspect/index.ts";
import { recordAllocations } from "../npm/inspect/leaks.ts";
import { TRACED } from "../npm/inspect/traced.ts";
import { build } from "../tools/compiler.ts";
import { library } from "../tools/libraries.ts";
import { LAYOUTS, write } from "./support-inspect.ts";
import { assemble } from "./support-wat.ts";
import { KEEP_NAMES, refusal, withCompilers } from "./support.ts";

const LIBRARY = library("wasm32-wasi");

/** The blocks and bytes leaked from each place whose stack has all of these functions. */
function forgottenIn(sites: readonly LeakSite[], ...functions: readonly string[]): number[][] {
  return sites
    .filter(({ stack }) => functions.every((name) => stack.includes(name)))
    .map(({ blocks, bytes }) => [blocks, bytes]);
}

await withCompilers((compiler, add) => {
  for (const optimization of ["-O0", "-O2"]) {
    const options = { flags: [optimization, "-fno-builtin"], linkFlags: [KEEP_NAMES] };

    add(
      `leaks of a C program are reported with the functions that allocated them, ${optimization}`,
      async () => {
        const inputs = ["wasi-tests/programs/inspect-leaks.c", LIBRARY];
        const program = await build(compiler, { inputs, ...options });
        const { leaks } = await inspect(program, LAYOUTS, { leaks: true, stdout: 2 });
        assert.equal(forgottenIn(leaks!.sites, "load_names", "copy_of"), [[20, 20 * 29]]);
        assert.equal(forgottenIn(leaks!.sites, "load_table"), [[2, 105_000]]);
        const [first] = leaks!.sites;
        assert.is(first!.stack[0], "load_table");
        assert.is(leaks!.calls > 1000, true);
      },
    );

    add(
      `leaks of a C++ program are reported with the functions that allocated them, ${optimization}`,
      async () => {
        const inputs = ["wasi-tests/programs/inspect-leaks.cc", LIBRARY];
        const program = await build(compiler, { inputs, ...options });
        const { leaks } = await inspect(program, LAYOUTS, { leaks: true });
        const from = (name: string) =>
          leaks!.sites.filter(({ stack }) => stack.some((frame) => frame.includes(name)));
        const bytes = (name: string) => from(name).reduce((sum, site) => sum + site.bytes, 0);
        // The vector and its table.
        assert.is(bytes("shop::open_cache()"), 12 + 4000);
        assert.ok(
          bytes("shop::Shelf<") >= 12 + 53,
          `only ${bytes("shop::Shelf<")} bytes leaked from shop::Shelf`,
        );
        // A block that is freed, of 2000 bytes, is not listed.
        assert.not.ok(leaks!.sites.some(({ bytes }) => bytes === 2000));
      },
    );
  }

  add(
    "without function names, allocation functions are found by their exports, and others are numbers",
    async () => {
      const inputs = ["wasi-tests/programs/inspect-leaks.c", LIBRARY];
      const exported = ["malloc", "calloc", "realloc", "free"].map((name) => `-Wl,--export=${name}`);
      const leaksWith = async (...linkFlags: readonly string[]) => {
        const program = await build(compiler, { inputs, flags: ["-O2", "-fno-builtin"], linkFlags });
        const { leaks } = await inspect(program, LAYOUTS, { leaks: true, stdout: 2 });
        return leaks!;
      };
      const named = await leaksWith(KEEP_NAMES);
      const nameless = await leaksWith(KEEP_NAMES, "-Wl,--strip-all", ...exported);
      for (const key of ["blocks", "bytes", "calls"] as const) assert.is(nameless[key], named[key]);
      assert.equal(
        nameless.sites.map(({ stack }) => stack.length),
        named.sites.map(({ stack }) => stack.length),
      );
      for (const { stack } of nameless.sites)
        for (const frame of stack) assert.match(frame, /^function \d+$/);
    },
  );

  add("a program without function names is refused with a line that says how to link it", async () => {
    const inputs = ["wasi-tests/programs/inspect-leaks.c", LIBRARY];
    const program = await build(compiler, { inputs, linkFlags: ["-Wl,--strip-all"] });
    const message = await refusal(inspect(program, LAYOUTS, { leaks: true }));
    assert.match(message, /no function named malloc: link with names \(clang: --no-wasm-opt and no -s;/);
  });
});

/** A program with an allocation that is never freed, and then a trap. */
const TRAPPING = `(module
  (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))
  (memory (export "memory") 1)
  (func $malloc (export "malloc") (param i32) (result i32) (i32.const 8))
  (func $inner (drop (call $malloc (i32.const 5))) (unreachable))
  (func $start (export "_start") (call $inner)))`;

for (const hasNames of [true, false])
  test(`stacks ${hasNames ? "with" : "without"} function names, and how to get them`, async () => {
    const file = await write("trap.wasm", assemble(TRAPPING, {}, { write_debug_names: hasNames }));
    for (const leaks of [false, true]) {
      const report = await inspect(file, LAYOUTS, { leaks });
      const stack = hasNames ? ["inner", "start"] : ["function 2", "function 3"];
      assert.equal("stack" in report.end && report.end.stack, stack);
      if (leaks) assert.equal(report.leaks!.sites, [{ blocks: 1, bytes: 5, stack }]);
      const hints = hasNames ? 0 : leaks ? 2 : 1;
      for (const text of [formatText(report), formatHtml(report)])
        assert.is(text.match(/no function names: link with names \(clang: .*\)/g)?.length ?? 0, hints);
    }
  });

test("a block takes no more memory in the recorder the longer its call stack is", () => {
  setFlagsFromString("--expose-gc");
  const collectGarbage = runInNewContext("gc") as () => void;
  const malloc = TRACED.indexOf("malloc");
  const { enter, leave, report } = recordAllocations(
    () => 0,
    true,
    () => {},
  );
  const allocate = (depth: number, block: number): void => {
    if (depth > 0) return allocate(depth - 1, block);
    enter();
    leave(malloc, block, 8, 0, 0);
  };
  const BLOCKS = 2000;
  const bytesPerBlock = (depth: number, first: number): number => {
    collectGarbage();
    const before = process.memoryUsage().heapUsed;
    for (let block = first; block < first + BLOCKS; ++block) allocate(depth, block);
    collectGarbage();
    return (process.memoryUsage().heapUsed - before) / BLOCKS;
  };
  const [shallow, deep] = [bytesPerBlock(0, 1), bytesPerBlock(50, 1 + BLOCKS)];
  assert.is(report().blocks, 2 * BLOCKS);
  assert.ok(deep < shallow + 500, `${shallow} and ${deep} bytes`);
});

test("leaks of a program are reported whatever its functions are called", async () => {
  const module = assemble(
    `(module
      (memory (export "memory") 1)
      (func $malloc (param i32) (result i32) (i32.const 8))
      (func $enter (drop (call $malloc (i32.const 5))))
      (func $leave (call $enter))
      (func $start (export "_start") (call $leave)))`,
    {},
    { write_debug_names: true },
  );
  const file = await write("names.wasm", module);
  const { leaks } = await inspect(file, LAYOUTS, { leaks: true });
  assert.equal(leaks!.sites, [{ blocks: 1, bytes: 5, stack: ["enter", "leave", "start"] }]);
});

test.run();
