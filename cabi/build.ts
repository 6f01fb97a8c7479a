/** Makes lib/ and include/: `node --import tsx cabi/build.ts`. */
import { copyFile, mkdir, rename, writeFile } from "node:fs/promises";
import path from "node:path";
import { writeArchive } from "./archive.ts";
import { ROOT, compileCore, type Core } from "./core.ts";
import { describeLayout } from "./layout.ts";
import { allNames, flatNames, moduleNames, prefixedNames } from "./names.ts";
import { writeObject, type Address, type PublicSymbol } from "./object.ts";
import { writeStandalone } from "./standalone.ts";

interface Library {
  readonly file: string;
  /** The core's compile-time constants (src/config.ts) that are set. */
  readonly constants: readonly string[];
  readonly functions: ReadonlyMap<string, readonly PublicSymbol[]>;
  /** The wasm features that the code uses, as LLVM names them. */
  readonly features: readonly string[];
}

const LIBRARIES: readonly Library[] = [
  {
    file: "lib/wasm32-wasi/librsbmallocc.a",
    constants: [],
    functions: allNames("wasm32-wasi"),
    features: ["bulk-memory"],
  },
  {
    file: "lib/wasm32-wasi/librsbmallocc-prefixed.a",
    constants: ["RSB_PREFIXED"],
    functions: prefixedNames(),
    features: ["bulk-memory"],
  },
];

const STANDALONE = { file: "lib/rsbmalloc.wasm", constants: [] };
const LAYOUT = { file: "lib/layout.json", constants: [] };
const HEADER = { from: "cabi/include/rsbmallocc.h", file: "include/rsbmallocc.h" };

/** The state holds 64-bit numbers; 16 keeps its lists off more cache lines than they need. */
const STATE_ALIGNMENT = 16;

/** What the core's imported globals stand for. */
function addresses({ stateSize }: Core): Map<string, Address> {
  return new Map([
    ["__rsb_state", { kind: "bss", size: stateSize, alignment: STATE_ALIGNMENT }],
    ["__heap_base", { kind: "data", symbol: "__heap_base" }],
    // wasm-ld before LLVM 16 does not define it.
    ["__heap_end", { kind: "data", symbol: "__heap_end", weak: true }],
    // Thread-local in libc, but a variable like any other where there is one thread. A program without libc has none.
    ["errno", { kind: "data", symbol: "errno", weak: true }],
  ]);
}

function library({ functions, features }: Library, core: Core): Uint8Array {
  const bytes = writeObject(core.relocatable, {
    functions,
    features,
    addresses: addresses(core),
    localName: (name) => name.replace(/^src\//, "rsbmalloc/"),
  });
  return writeArchive([{ name: "rsbmallocc.o", bytes, defines: flatNames(functions) }]);
}

/** Writes a product in one step, so that nobody reads half of it. */
async function publish(file: string, write: (to: string) => Promise<void>): Promise<void> {
  const product = path.join(ROOT, file);
  const unfinished = `${product}.${process.pid}`;
  await mkdir(path.dirname(product), { recursive: true });
  await write(unfinished);
  await rename(unfinished, product);
  console.log(file);
}

async function build(): Promise<void> {
  const cores = new Map<string, Core>();
  const coreWith = async (constants: readonly string[]): Promise<Core> => {
    const key = constants.join();
    const core = cores.get(key) ?? (await compileCore(constants));
    cores.set(key, core);
    return core;
  };
  for (const row of LIBRARIES) {
    const bytes = library(row, await coreWith(row.constants));
    await publish(row.file, (to) => writeFile(to, bytes));
  }
  await publish(HEADER.file, (to) => copyFile(path.join(ROOT, HEADER.from), to));
  const heapLayout = await describeLayout(LAYOUT.constants);
  await publish(LAYOUT.file, (to) => writeFile(to, `${JSON.stringify(heapLayout, null, 2)}\n`));
  const core = await coreWith(STANDALONE.constants);
  const layout = { stateSize: core.stateSize, stateAlignment: STATE_ALIGNMENT };
  const bytes = writeStandalone(core.module, moduleNames(), layout);
  await publish(STANDALONE.file, (to) => writeFile(to, bytes));
}

try {
  await build();
} catch (error) {
  console.error(`cabi/build.ts: ${error instanceof Error ? error.message : error}`);
  process.exit(1);
}
