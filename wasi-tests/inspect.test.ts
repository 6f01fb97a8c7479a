/** The inspector: what it reads from heaps, what the command reports, and what it says to damaged programs and heaps. */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import fc from "fast-check";
import { chromium } from "playwright-core";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { instantiate, type Heap } from "../npm/index.ts";
import { formatHtml, inspect, readHeaps, readLayouts, type RunReport } from "../npm/inspect/index.ts";
import { ROOT } from "../tools/command.ts";
import { build, findCompiler } from "../tools/compiler.ts";

const layouts = readLayouts();
const program = await build(await findCompiler(), {
  inputs: ["wasi-tests/programs/inspect-leaks.c", "lib/wasm32-wasi/librsbmallocc.a"],
  flags: ["-fno-builtin"],
});

const folder = mkdtempSync(path.join(os.tmpdir(), "rsbmalloc-inspect-"));
test.after(() => rmSync(folder, { recursive: true }));

async function write(name: string, contents: string | Uint8Array): Promise<string> {
  const file = path.join(folder, name);
  await writeFile(file, contents);
  return file;
}

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function command(...args: string[]): Promise<Outcome> {
  const line = ["--import", "tsx", "npm/cli.ts", "inspect", ...args];
  try {
    return {
      code: 0,
      ...(await promisify(execFile)(process.execPath, line, { cwd: ROOT, maxBuffer: 1 << 26 })),
    };
  } catch (error) {
    return error as Outcome;
  }
}

/** Fills a heap with blocks of many sizes and frees some of them. Returns those in use. */
function fill(heap: Heap, sizes: readonly number[]): number[] {
  const blocks = sizes.map((size) => heap.malloc(size));
  return blocks.filter((block, index) => {
    const kept = index % 3 === 0;
    if (!kept) heap.free(block);
    return kept;
  });
}

const SIZES = Array.from(
  { length: 600 },
  (_, index) => ((index * index * 37) % 300) * ((index % 7) + 1) + (index % 50 ? 0 : 60_000),
);

test("the reader counts as mallinfo does", async () => {
  const heap = await instantiate();
  assert.equal(readHeaps(heap.memory.buffer, layouts), []);
  fill(heap, SIZES);
  const [report, ...others] = readHeaps(heap.memory.buffer, layouts);
  assert.equal(others, []);
  const info = heap.mallinfo();
  // Which counts what lies behind the last slots of a run as in use, unless none of them is.
  const waste = report!.regions
    .filter(({ usedSlots }) => usedSlots)
    .reduce((sum, { pages, slots, slotSize }) => sum + pages * report!.pageSize - slots! * slotSize!, 0);
  assert.equal(
    [report!.state, report!.heap, report!.inUse + waste, report!.free - waste, report!.peak],
    [heap.state, info.heap, info.inUse, info.free, info.peak],
  );
  assert.equal(report!.damage, []);
});

test("everything freed leaves nothing in use, and regions cover the heap", async () => {
  const heap = await instantiate();
  for (const block of fill(heap, SIZES)) heap.free(block);
  const [report] = readHeaps(heap.memory.buffer, layouts);
  assert.is(report!.inUse, 0);
  let at = report!.start;
  for (const { address, pages } of report!.regions) {
    assert.is(address, at);
    at += pages * report!.pageSize;
  }
  assert.is(at, report!.end);
});

test("two heaps in one memory are told apart", async () => {
  const first = await instantiate();
  first.malloc(100);
  const second = await instantiate({ memory: first.memory });
  second.malloc(50_000);
  const heaps = readHeaps(first.memory.buffer, layouts);
  // The second one's state lies behind the first one's heap, as it cannot where a linker places both.
  assert.ok(heaps.some(({ state }) => state === first.state));
});

const FAULTS: Readonly<Record<string, readonly [(heap: Heap, blocks: readonly number[]) => void, RegExp]>> = {
  "a double free": [(heap, [a, b]) => [a!, b!, a!].forEach(heap.free), /twice/],
  "a write after free": [
    (heap, [block]) => {
      heap.free(block!);
      new DataView(heap.memory.buffer).setUint32(block!, 0x12345678, true);
    },
    /leads to 0x12345678/,
  ],
  "a free of no block": [(heap) => heap.free(16), /0x10 was freed, where no block starts/],
};

for (const [name, [misuse, damage]] of Object.entries(FAULTS)) {
  test(`the reader sees ${name}`, async () => {
    const heap = await instantiate();
    misuse(heap, fill(heap, Array<number>(30).fill(24)));
    const [report] = readHeaps(heap.memory.buffer, layouts);
    assert.match(report!.damage.join("\n"), damage);
  });
}

test("a damaged heap gives a report or one line", async () => {
  const heap = await instantiate();
  fill(heap, SIZES);
  const sound = new Uint8Array(heap.memory.buffer).slice();
  const layout = layouts[0]!;
  // Half of the hits go to the state, where they hurt most.
  const address = fc.oneof(
    fc.integer({ min: heap.state, max: heap.state + layout.STATE_SIZE }),
    fc.integer({ min: 0, max: sound.length - 4 }),
  );
  const value = fc.oneof(
    fc.integer(),
    fc.integer({ min: 0, max: 64 }),
    fc.integer({ min: 0, max: sound.length }),
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(address, value), { minLength: 1, maxLength: 40 }), (hits) => {
      const memory = sound.slice();
      const view = new DataView(memory.buffer);
      for (const [at, word] of hits) view.setInt32(Math.min(at & ~3, sound.length - 4), word, true);
      try {
        for (const report of readHeaps(memory.buffer, layouts)) {
          assert.ok(report.damage.length <= 20);
          assert.ok(report.inUse >= 0 && report.inUse <= report.heap);
          formatHtml(reportOf(report));
        }
      } catch (error) {
        assert.instance(error, Error);
        assert.match((error as Error).message, /^the heap .* is damaged: .*$/);
      }
    }),
    { numRuns: 1000, seed: 1 },
  );
});

function reportOf(heap: RunReport["heaps"][number]): RunReport {
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

test("the command reports as text, and ends as the program does", async () => {
  const { code, stdout } = await command(program);
  assert.is(code, 3);
  assert.match(stdout, /^round 9$/m);
  assert.match(stdout, /ended with exit code 3/);
  // 20 names in slots for 29 bytes.
  assert.match(stdout, /^ *32 B +1 +\d+ +20 /m);
});

test("the command reports a trap, with the functions that led there", async () => {
  const { code, stdout } = await command("--json", program, "trap");
  const report = JSON.parse(stdout) as RunReport;
  assert.is(code, 1);
  assert.ok("trap" in report.end);
  assert.is(report.end.stack[0], "abort");
  assert.is(report.heaps.length, 1);
  assert.equal(report.args, ["trap"]);
});

test("the command looks every so many calls or milliseconds", async () => {
  const calls = await command("--every", "500", "--json", program);
  const { timeline } = JSON.parse(calls.stdout) as RunReport;
  assert.equal(
    timeline.slice(0, 4).map((sample) => sample.calls),
    [500, 1000, 1500, 2000],
  );
  assert.match(calls.stderr, /^.* 500 calls .* in use .*$/m);
  const ms = await command("--every", "1ms", program);
  assert.match(ms.stderr, /^.* ms .* in use .*$/m);
});

test("--leaks names the places that lost blocks came from", async () => {
  const { leaks } = await inspect(program, layouts, { leaks: true, stdout: 2 });
  const sites = leaks!.sites.map(({ blocks, bytes, stack }) => ({ blocks, bytes, in: stack.slice(0, 2) }));
  const at = (name: string) => sites.filter((site) => site.in.includes(name));
  assert.equal(at("load_names"), [{ blocks: 20, bytes: 20 * 29, in: ["copy_of", "load_names"] }]);
  assert.equal(
    at("load_table").map(({ blocks, bytes }) => [blocks, bytes]),
    [
      [1, 100_000],
      [1, 5000],
    ],
  );
});

test("the page of HTML shows the numbers of the JSON report", async () => {
  const [html, json] = [path.join(folder, "heap.html"), path.join(folder, "heap.json")];
  assert.is((await command("--leaks", "--html", "--output", html, program)).code, 3);
  assert.is((await command("--leaks", "--json", "--output", json, program)).code, 3);
  const report = JSON.parse(await readFile(json, "utf8")) as RunReport;
  const [heap] = report.heaps;

  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync".split(
      " ",
    ),
  });
  try {
    const page = await browser.newPage();
    const problems: string[] = [];
    page.on("pageerror", (error) => problems.push(error.message));
    page.on("request", (request) => void (request.url().startsWith("file:") || problems.push(request.url())));
    await page.goto(pathToFileURL(html).href);
    const values = (selector: string) =>
      page.$$eval(`${selector} [data-value]`, (cells) =>
        cells.map(
          (cell) => [cell.getAttribute("data-key")!, Number(cell.getAttribute("data-value"))] as const,
        ),
      );
    const shown = Object.fromEntries(await values("section[data-heap] .facts"));
    assert.equal(shown, {
      heap: heap!.heap,
      inUse: heap!.inUse,
      free: heap!.free,
      peak: heap!.peak,
      mapSize: heap!.mapSize,
      largeBlocks: heap!.large.blocks,
      largeBytes: heap!.large.bytes,
      freeRuns: heap!.freeRuns.runs,
      longestRun: heap!.freeRuns.longest,
    });
    for (const { slotSize, pages, slots, usedSlots, rounding, waste } of heap!.bins) {
      const row = Object.fromEntries(await values(`tr[data-bin="${slotSize}"]`));
      assert.equal(row, {
        slotSize,
        pages,
        slots,
        usedSlots,
        usedBytes: usedSlots * slotSize,
        rounding,
        waste,
      });
    }
    const { blocks, bytes, calls, sites } = report.leaks!;
    const leaks = Object.fromEntries(await values("section[data-leaks] .facts"));
    assert.equal(leaks, { leakedBlocks: blocks, leakedBytes: bytes, calls, sites: sites.length });

    // The map has every page of every region that is the heap's, and nothing else, in its picture.
    const painted = await page.$$eval("svg.map path", (paths) =>
      paths.map((path) => (path as SVGPathElement).getBBox().width).filter((width) => width > 0),
    );
    assert.is(painted.length, heap!.regions.filter(({ serves }) => serves !== "other").length);
    assert.is(
      await page.$eval("svg.map", (map) => Number(map.getAttribute("data-value"))),
      (heap!.end - heap!.start) / heap!.pageSize,
    );
    assert.equal(problems, []);
  } finally {
    await browser.close();
  }
});

const EMPTY_MODULE = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
// (import "env" "f" (func))
const IMPORTING = [...EMPTY_MODULE, 1, 4, 1, 0x60, 0, 0, 2, 9, 1, 3, 0x65, 0x6e, 0x76, 1, 0x66, 0, 0];
// (memory (export "memory") 1)
const MEMORY_ALONE = [...EMPTY_MODULE, 5, 3, 1, 0, 1, 7, 10, 1, 6, ...Buffer.from("memory"), 2, 0];

const NO_PROGRAMS: Readonly<Record<string, readonly [string | readonly number[], RegExp]>> = {
  text: ["hello", /expected magic word/],
  "a module without a memory": [EMPTY_MODULE, /it exports no memory/],
  "a module that is no program": [MEMORY_ALONE, /neither _start nor _initialize/],
  "a module for another host": [IMPORTING, /it imports env\.f, which WASI preview 1 has not/],
};

for (const [name, [contents, message]] of Object.entries(NO_PROGRAMS)) {
  test(`${name} is refused in one line`, async () => {
    const file = await write(
      "refused.wasm",
      typeof contents === "string" ? contents : Uint8Array.from(contents),
    );
    assert.match(await refusal(inspect(file, layouts)), message);
  });
}

test("leaks need the names of functions", async () => {
  const file = await write("nameless.wasm", Uint8Array.from(MEMORY_ALONE));
  assert.match(await refusal(inspect(file, layouts, { leaks: true })), /no function by the name of malloc/);
});

const WRONG_LINES: Readonly<Record<string, readonly [readonly string[], RegExp]>> = {
  "a missing file": [["missing.wasm"], /missing\.wasm: .*no such file/],
  "--every never": [["--every", "0", program], /--every takes/],
  "both formats": [["--json", "--html", program], /exclude each other/],
  "an output that cannot be": [["--output", folder, program], /cannot write/],
};

for (const [name, [args, message]] of Object.entries(WRONG_LINES)) {
  test(`the command refuses ${name} in one line`, async () => {
    const { code, stdout, stderr } = await command(...args);
    assert.is(code, 1);
    assert.is(stdout, "");
    assert.match(stderr, message);
    assert.is(stderr.trim().split("\n").length, 1, stderr);
  });
}

test("a damaged module gives one line", async () => {
  const sound = new Uint8Array(await readFile(program));
  const damaged = path.join(folder, "damaged.wasm");
  for (let length = 0; length < sound.length; length += Math.ceil(sound.length / 40)) {
    await writeFile(damaged, sound.subarray(0, length));
    await expectOneLine(damaged);
  }
  // The sections before the code: what is in the code may well run forever.
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(1000), fc.nat(255)), { minLength: 1, maxLength: 8 }),
      async (hits) => {
        const module = sound.slice();
        for (const [at, byte] of hits) module[at] = byte;
        await writeFile(damaged, module);
        if (!WebAssembly.validate(module)) await expectOneLine(damaged);
      },
    ),
    { numRuns: 100, seed: 1 },
  );
});

async function expectOneLine(file: string): Promise<void> {
  assert.match(await refusal(inspect(file, layouts, { leaks: true, stdout: 2 })), /damaged\.wasm: /);
}

/** The one line that something is refused with. */
async function refusal(attempt: Promise<unknown>): Promise<string> {
  const message = await attempt.then(
    () => assert.unreachable("it was not refused"),
    (error: Error) => error.message,
  );
  assert.match(message!, /^[^\n]+$/);
  return message!;
}

test.run();
