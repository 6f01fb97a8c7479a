/**
 * `swap`, which exchanges the malloc of a linked module: the program prints the same as before, nothing of the old malloc
 * is left, and the new heap is sound when the program ends.
 */
import { copyFile, mkdtemp, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import binaryen from "binaryen";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { linked, peer, type Peer } from "../bench/peers/peers.ts";
import { SECTION, payloadOf, readSections, reader } from "../npm/binary-format.ts";
import { swap, type SwapReport, type Swapped } from "../npm/swap/swap.ts";
import { WASM_PAGE } from "../npm/webassembly.ts";
import type { Program } from "../tools/compiler.ts";
import { buildEmscripten, runEmscripten } from "../tools/emscripten.ts";
import { citiesInput, sqliteProgram } from "../tools/sqlite.ts";
import { runProgram } from "../tools/wasi.ts";
import { checkHeap } from "./heap-check.ts";
import { EXPORTED, buildMapped, emscripten } from "./support-emscripten.ts";
import { KEEP_NAMES, NATIVE, functionNames, needs, readBytes, temporaryFolder } from "./support.ts";

const LEVELS = ["-O0", "-O1", "-O2", "-O3"] as const;
const MALLOCS = ["dlmalloc", "emmalloc"] as const;
type Malloc = (typeof MALLOCS)[number];

const EVERYTHING: Program = { inputs: ["wasi-tests/programs/swap.c"] };
const CONTAINERS: Program = { inputs: ["c-examples/containers.cc"], flags: ["-std=c++17"] };
const HASH_MAP: Program = { inputs: ["c-examples/hash-map.c"] };

const folder = temporaryFolder();

const withEmscripten = needs("emcc");
const withBoth = needs("emcc", NATIVE);

/** A program's output, and its memory when it ended. */
interface Ended {
  readonly stdout: string;
  readonly memory: ArrayBuffer;
}

/** Matches names of functions of an old malloc. */
const OLD_CODE =
  /^(dl|emmalloc_)|dispose_chunk|try_realloc_chunk|prepend_alloc|internal_memalign|claim_more_memory|attempt_|initialize_emmalloc/;

/** Runs the program before and after the exchange, and checks everything that can be seen of it. */
async function checkSwapped(
  original: Uint8Array<ArrayBuffer>,
  { bytes, report }: Swapped,
  run: (module: Uint8Array<ArrayBuffer>) => Promise<Ended>,
): Promise<void> {
  assert.is(report.before, original.length);
  assert.is(report.after, bytes.length);
  assert.ok(report.after < report.before + 4000, `${report.before} bytes became ${report.after}`);
  const exportNames = (module: Uint8Array<ArrayBuffer>) =>
    WebAssembly.Module.exports(new WebAssembly.Module(module)).map(({ name }) => name);
  assert.equal(exportNames(bytes), exportNames(original));

  const before = await run(original);
  const after = await run(bytes);
  assert.is.not(before.stdout, "");
  assert.is(after.stdout, before.stdout);
  checkHeap(after.memory, report.state, { foreign: [[0, report.heapBase]] });

  const words = oldData(original, report);
  const inUse = ({ memory }: Ended) => words.filter((word) => new Uint32Array(memory, word, 1)[0] !== 0);
  assert.ok(inUse(before).length > 0, "none of the old malloc's data was written before the exchange");
  assert.equal(inUse(after), [], "some of the old malloc's data was written after the exchange");
}

/**
 * The words to which the replaced and removed functions write, by constant addresses in their code. Words that have an
 * initial value are left out: they do not belong to the malloc, such as Emscripten's break.
 */
function oldData(original: Uint8Array, { replaced, removed, errno }: SwapReport): number[] {
  const module = binaryen.readBinary(original);
  const addresses = [...replaced, ...removed].flatMap(({ index }) => {
    const { body } = binaryen.getFunctionInfo(module.getFunctionByIndex(index));
    const code = binaryen.emitText(body);
    const stores = code.matchAll(/\([if]\d\d\.store(?: \$\S+)?(?: offset=(\d+))?\s+\(i32\.const (\d+)\)/g);
    return [...stores].map(([, offset = 0, base]) => Number(base) + Number(offset));
  });
  module.dispose();
  const initialized = dataSegments(original);
  const hasValue = (address: number) =>
    initialized.some(({ start, end }) => address >= start && address < end);
  return [...new Set(addresses)].filter(
    (address) => address % 4 === 0 && address !== errno && !hasValue(address),
  );
}

/** The ranges of memory that active data segments initialize. */
function dataSegments(module: Uint8Array): { start: number; end: number }[] {
  const read = reader(payloadOf(readSections(module), SECTION.data));
  return read.vector(() => {
    const passive = read.u32() === 1;
    let start = 0;
    if (!passive) {
      read.byte(); // i32.const
      start = read.i32();
      read.byte(); // end
    }
    const { length } = read.take(read.u32());
    return { start, end: passive ? start : start + length };
  });
}

// WASI. wasi-libc's own malloc is dlmalloc.

const WASI_MALLOCS: Record<Malloc, () => Promise<Peer>> = {
  dlmalloc: async () => linked("dlmalloc", []),
  emmalloc: () => peer("emmalloc"),
};

async function checkWasi(malloc: Malloc, program: Program, stdin = ""): Promise<void> {
  const linkFlags = [KEEP_NAMES, "-Wl,--import-memory,--export-memory,--initial-memory=2097152"];
  const original = await readBytes(await (await WASI_MALLOCS[malloc]()).link({ ...program, linkFlags }));
  const swapped = await swap(original);
  const { report } = swapped;
  assert.is(report.allocator, malloc);
  assert.is(report.source, "memory.grow");
  assert.equal(
    functionNames(swapped.bytes).filter((name) => OLD_CODE.test(name)),
    [],
  );
  await checkSwapped(original, swapped, async (module) => {
    const memory = new WebAssembly.Memory({ initial: report.heapEnd / WASM_PAGE });
    const { stdout } = await runProgram("node", new WebAssembly.Module(module), { memory, stdin });
    return { stdout, memory: memory.buffer };
  });
}

for (const malloc of MALLOCS) {
  const add = malloc === "dlmalloc" ? test : withEmscripten;
  for (const level of LEVELS) {
    add(`WASI, ${malloc}, ${level}: a program that calls every function that allocates runs as before`, () =>
      checkWasi(malloc, { ...EVERYTHING, flags: [level] }),
    );
  }
  add(`WASI, ${malloc}: a program with C++ containers runs as before`, () =>
    checkWasi(malloc, { ...CONTAINERS, flags: [...CONTAINERS.flags!, "-O2"] }),
  );
  add(`WASI, ${malloc}: a program with a hash map runs as before`, () =>
    checkWasi(malloc, { ...HASH_MAP, flags: ["-O1"] }),
  );
  withBoth(`WASI, ${malloc}: SQLite runs as before`, async () => {
    const program = sqliteProgram();
    await checkWasi(malloc, { ...program, flags: [...program.flags, "-O2"] }, await citiesInput(50));
  });
}

// Emscripten.

interface Built {
  readonly script: string;
  readonly module: Uint8Array<ArrayBuffer>;
  readonly names: Map<string, number>;
}

const WRITE_MEMORY = ["--pre-js", "wasi-tests/programs/swap-memory.js"];

async function emscriptenProgram(inputs: readonly string[], flags: readonly string[]): Promise<Built> {
  const { script, file, names } = await buildMapped(inputs, EXPORTED, ...WRITE_MEMORY, ...flags);
  return { script, module: await readBytes(file), names };
}

/** Compiles a program to objects, which can be linked in several ways. */
function emscriptenObjects({ inputs, flags = [], includes = [] }: Program): Promise<string[]> {
  return Promise.all(
    inputs.map((input) =>
      buildEmscripten(emscripten, {
        inputs: [input],
        flags: ["-c", "-O1", ...flags, ...includes.map((each) => `-I${each}`)],
        output: `${path.parse(input).name}.o`,
      }),
    ),
  );
}

/** Runs a program's JavaScript with this module in place of its own. */
async function runWith(script: string, module: Uint8Array, stdin = ""): Promise<Ended> {
  const copy = await mkdtemp(path.join(folder, "run-"));
  const file = (name: string) => path.join(copy, name);
  await copyFile(script, file("program.js"));
  await writeFile(file("program.wasm"), module);
  const { stdout, stderr } = await runEmscripten(file("program.js"), [file("memory")], stdin);
  const memory = await readFile(file("memory")).catch(() => {
    throw new Error(`the program did not end: ${stderr}`);
  });
  return { stdout, memory: new Uint8Array(memory).buffer };
}

async function checkEmscripten(
  malloc: Malloc,
  level: string,
  inputs: readonly string[],
  stdin = "",
): Promise<void> {
  const { script, module, names } = await emscriptenProgram(inputs, [level, `-sMALLOC=${malloc}`]);
  const swapped = await swap(module, names);
  const { report } = swapped;
  assert.is(report.allocator, malloc);
  const gone = new Set([...report.replaced, ...report.removed].map(({ index }) => index));
  assert.equal(
    [...names].filter(([name, index]) => OLD_CODE.test(name) && !gone.has(index)),
    [],
  );
  await checkSwapped(module, swapped, (each) => runWith(script, each, stdin));
}

for (const level of LEVELS) {
  for (const malloc of MALLOCS) {
    withEmscripten(
      `Emscripten, ${malloc}, ${level}: a program that calls every function that allocates runs as before`,
      () => checkEmscripten(malloc, level, EVERYTHING.inputs),
    );
    withEmscripten(`Emscripten, ${malloc}, ${level}: SQLite runs as before`, async () =>
      checkEmscripten(malloc, level, await emscriptenObjects(sqliteProgram()), await citiesInput(50)),
    );
  }
}

for (const malloc of MALLOCS) {
  withEmscripten(`Emscripten, ${malloc}: a program with C++ containers runs as before`, async () =>
    checkEmscripten(malloc, "-O2", await emscriptenObjects(CONTAINERS)),
  );
}

withEmscripten(
  "Emscripten: swap finds functions by the name section if there is no map, and updates that section",
  async () => {
    const flags = ["-O0", "--profiling-funcs"];
    const { script, module } = await emscriptenProgram(EVERYTHING.inputs, flags);
    const { bytes } = await swap(module);
    const names = functionNames(bytes);
    assert.ok(names.includes("main") && names.includes("sbrk"), names.join(" "));
    assert.equal(
      names.filter((name) => OLD_CODE.test(name)),
      [],
    );
    assert.ok(names.includes("rsbmalloc/heap/allocate"), names.join(" "));
    assert.is((await runWith(script, bytes)).stdout, (await runWith(script, module)).stdout);
  },
);

withEmscripten("Emscripten: a program's own malloc, over emscripten_builtin_malloc, is kept", async () => {
  const script = await buildEmscripten(emscripten, {
    inputs: ["wasi-tests/programs/emscripten-wrapper.c"],
    flags: ["-O1", "--profiling-funcs", ...WRITE_MEMORY],
  });
  const { bytes, report } = await swap(await readBytes(script.replace(/\.js$/, ".wasm")));
  assert.not.ok(report.replaced.some(({ name }) => name === "malloc" || name === "free"));
  assert.is((await runWith(script, bytes)).stdout, "3 alive, 0 in the end\n");
});

withEmscripten(
  "Emscripten: if sbrk has no name, the module gets another one that grows memory through JavaScript",
  async () => {
    const { script, module, names } = await emscriptenProgram(EVERYTHING.inputs, [
      "-O1",
      "-sMALLOC=dlmalloc",
    ]);
    names.delete("sbrk");
    const swapped = await swap(module, names);
    assert.is(swapped.report.source, "emscripten_resize_heap");
    await checkSwapped(module, swapped, (each) => runWith(script, each));
  },
);

withEmscripten("Emscripten: a program that calls sbrk itself still works", async () => {
  const { script, module, names } = await emscriptenProgram(["wasi-tests/programs/swap-sbrk.c"], ["-O1"]);
  const { bytes, report } = await swap(module, names);
  assert.is(report.source, "sbrk");
  assert.is((await runWith(script, bytes)).stdout, "0 bytes wrong\n");
});

withEmscripten("Emscripten: a program with SAFE_HEAP and ASSERTIONS runs as before", async () => {
  const flags = ["-O1", "-sMALLOC=dlmalloc", "-sSAFE_HEAP=1", "-sASSERTIONS=2"];
  const { script, module, names } = await emscriptenProgram(HASH_MAP.inputs, flags);
  const { bytes } = await swap(module, names);
  assert.is((await runWith(script, bytes)).stdout, (await runWith(script, module)).stdout);
});

test.run();
