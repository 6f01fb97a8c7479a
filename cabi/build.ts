/** Builds lib/ and include/: `node --import tsx cabi/build.ts`. */
import { copyFile, mkdir, rename, writeFile } from "node:fs/promises";
import path from "node:path";
import { runLLVM } from "@yowasp/clang";
import { STATE_ALIGNMENT } from "../npm/requirements.ts";
import { ROOT, runCommand } from "../tools/command.ts";
import { compileCore, type Core } from "./core.ts";
import { describeLayout } from "./layout.ts";
import {
  FAULTS,
  allNames,
  hardened,
  moduleNames,
  onFaultNames,
  prefixedNames,
  sbrkNames,
  swapNames,
  threadNames,
} from "./names.ts";
import { writeObject, type Address, type PublicSymbol } from "./object.ts";
import { writeStandalone } from "./standalone.ts";

interface Library {
  readonly file: string;
  /** The compile-time constants to set for the core (src/config.ts). */
  readonly constants: readonly string[];
  readonly members: readonly LibraryObject[];
  /** The wasm features that the code uses, as LLVM names them. */
  readonly features: readonly string[];
  /** The imported functions that a program need not define. */
  readonly weakFunctions?: ReadonlySet<string>;
}

/** An object in a library. */
interface LibraryObject {
  readonly name: string;
  /** The files in src/ to compile. Their exports are the object's. */
  readonly entries: readonly string[];
  readonly functions: ReadonlyMap<string, readonly PublicSymbol[]>;
}

function core(functions: LibraryObject["functions"], entry = "src/index.ts"): LibraryObject {
  return { name: "rsbmallocc.o", entries: [entry], functions };
}

/** Returns the compact variant of a library. */
function compactLibrary(library: Library): Library {
  return {
    ...library,
    file: library.file.replace(/\.a$/, "-compact.a"),
    constants: [...library.constants, "RSB_COMPACT"],
  };
}

/** Returns the hardened variant of a library. */
function hardenedLibrary(library: Library): Library {
  return {
    ...library,
    file: library.file.replace(/\.a$/, "-hardened.a"),
    constants: [...library.constants, "RSB_HARDENED"],
    features: [...library.features, "simd128"],
    members: [
      ...library.members.map((member) =>
        member.name === "rsbmallocc.o"
          ? {
              ...member,
              entries: [...member.entries, "src/faults.ts"],
              functions: hardened(member.functions),
            }
          : member,
      ),
      { name: "on-fault.o", entries: ["src/on-fault.ts"], functions: onFaultNames() },
    ],
  };
}

/** The linker rejects objects without these two features in a program with shared memory. */
const THREAD_FEATURES = ["atomics", "bulk-memory"];

/** One heap behind a lock, without and with thread caches in front of it. */
const THREAD_VARIANTS = [
  { suffix: "-locked", constants: ["RSB_LOCKED"] },
  { suffix: "-mt", constants: ["RSB_MT"] },
];

/** Used if the program has them anyway. */
const PTHREAD_KEYS = ["pthread_key_create", "pthread_setspecific"];

/** The wasi-libc functions that the libraries for threads use. A program that makes its threads without it has none. */
const WASI_THREAD_FUNCTIONS = ["__errno_location", "__wait", ...PTHREAD_KEYS];

/** What a library with prefixed names uses of libc's malloc, if the program has that too. */
const LIBC_MALLOC = ["__libc_malloc", "__libc_free"];

const PLAIN_LIBRARIES: readonly Library[] = [
  {
    file: "lib/wasm32-wasi/librsbmallocc.a",
    constants: [],
    members: [core(allNames("wasm32-wasi"))],
    features: ["bulk-memory"],
  },
  {
    file: "lib/wasm32-wasi/librsbmallocc-prefixed.a",
    constants: ["RSB_PREFIXED"],
    members: [core(prefixedNames())],
    features: ["bulk-memory"],
    weakFunctions: new Set(LIBC_MALLOC),
  },
  {
    file: "lib/wasm32-emscripten/librsbmallocc.a",
    constants: ["RSB_EMSCRIPTEN"],
    members: [
      core(allNames("wasm32-emscripten"), "src/emscripten.ts"),
      { name: "sbrk.o", entries: ["src/sbrk.ts"], functions: sbrkNames() },
    ],
    features: ["bulk-memory"],
  },
  {
    file: "lib/wasm32-emscripten/librsbmallocc-prefixed.a",
    constants: ["RSB_EMSCRIPTEN", "RSB_PREFIXED"],
    members: [core(prefixedNames())],
    features: ["bulk-memory"],
  },
  ...THREAD_VARIANTS.map(({ suffix, constants }) => ({
    file: `lib/wasm32-wasi-threads/librsbmallocc${suffix}.a`,
    constants,
    members: [core(threadNames("wasm32-wasi"), "src/threads.ts")],
    features: THREAD_FEATURES,
    weakFunctions: new Set(WASI_THREAD_FUNCTIONS),
  })),
  ...THREAD_VARIANTS.map(({ suffix, constants }) => ({
    file: `lib/wasm32-emscripten/librsbmallocc${suffix}.a`,
    constants: ["RSB_EMSCRIPTEN", ...constants],
    members: [
      core(threadNames("wasm32-emscripten"), "src/emscripten-threads.ts"),
      { name: "sbrk.o", entries: ["src/sbrk.ts"], functions: sbrkNames() },
    ],
    features: THREAD_FEATURES,
    weakFunctions: new Set(PTHREAD_KEYS),
  })),
];

const LIBRARIES = PLAIN_LIBRARIES.flatMap((library) => [library, ...variantsOf(library)]);

/**
 * Returns the variants that are built of a library. Those for threads are compact as they are, and have one hardened
 * variant, with the lock and without caches: that of the -mt row.
 */
function variantsOf(library: Library): Library[] {
  if (library.constants.includes("RSB_LOCKED")) return [];
  if (library.constants.includes("RSB_MT") || library.constants.includes("RSB_PREFIXED"))
    return [hardenedLibrary(library)];
  return [compactLibrary(library), hardenedLibrary(library)];
}

/** Keeps the functions' names, for stack traces in the programs that the modules are put into. */
const KEEP_NAMES = ["--debug"];

/** Modules that contain the core, with the names under which they export each function. */
const MODULES = [
  // What `rsbmalloc swap` puts into finished modules: the core on top of memory.grow or of sbrk, and an sbrk.
  ...[
    { file: "lib/swap/core-grow.wasm", constants: [] },
    { file: "lib/swap/core-sbrk.wasm", constants: ["RSB_EMSCRIPTEN"] },
  ].map((row) => ({ ...row, entries: ["src/emscripten.ts"], options: KEEP_NAMES, names: swapNames() })),
  {
    file: "lib/swap/sbrk.wasm",
    constants: ["RSB_EMSCRIPTEN"],
    entries: ["src/sbrk.ts"],
    options: KEEP_NAMES,
    names: new Map([...sbrkNames().keys()].map((name) => [name, [name]])),
  },
  { file: "lib/rsbmalloc.wasm", constants: [], entries: ["src/index.ts"], options: [], names: moduleNames() },
];
const LAYOUTS = [
  { file: "lib/layout.json", constants: [] },
  { file: "lib/layout-hardened.json", constants: ["RSB_HARDENED"] },
];
/** Files that are shipped unchanged. */
const COPIES = [
  { from: "cabi/include/rsbmallocc.h", file: "include/rsbmallocc.h" },
  ...["rsbmalloc-config.cmake", "rsbmalloc-config-version.cmake"].map((name) => ({
    from: `cabi/packages/${name}`,
    file: `lib/cmake/rsbmalloc/${name}`,
  })),
  { from: "cabi/packages/rsbmalloc.py", file: "lib/wasm32-emscripten/rsbmalloc.py" },
];

/** Returns what the core's imported globals stand for, by name. */
function addresses({ stateSize }: Core): Map<string, Address> {
  return new Map([
    ["__rsb_state", { kind: "bss", size: stateSize, alignment: STATE_ALIGNMENT }],
    ["__rsb_break", { kind: "bss", size: stateSize, alignment: STATE_ALIGNMENT }],
    ["__heap_base", { kind: "data", symbol: "__heap_base" }],
    // wasm-ld before LLVM 16 does not define it.
    ["__heap_end", { kind: "data", symbol: "__heap_end", weak: true }],
    // libc declares it thread-local, but with a single thread it is an ordinary variable. Without libc there is none.
    ["errno", { kind: "data", symbol: "errno", weak: true }],
    ["rsbmalloc_cores", { kind: "data", symbol: "rsbmalloc_cores", weak: true }],
    ...Object.values(FAULTS).map((text): [string, Address] => [`text of ${text}`, { kind: "text", text }]),
    ...[...WASI_THREAD_FUNCTIONS, ...LIBC_MALLOC, "thread_destructor"].map((symbol): [string, Address] => [
      `address of ${symbol}`,
      { kind: "function", symbol },
    ]),
  ]);
}

async function library({ constants, members, features, weakFunctions }: Library): Promise<Uint8Array> {
  const objects = await Promise.all(
    members.map(async ({ name, entries, functions }) => {
      const compiled = await compileCore(
        entries,
        constants,
        features.includes("simd128") ? ["--enable", "simd"] : [],
      );
      const bytes = writeObject(compiled.relocatable, {
        functions,
        features,
        // A library without the lock must not get into a program whose threads share memory.
        forbidden: features.includes("atomics") ? [] : ["shared-mem"],
        weakFunctions: weakFunctions ?? new Set(),
        // For programs that are linked with -sMAIN_MODULE.
        positionIndependent: constants.includes("RSB_EMSCRIPTEN"),
        addresses: addresses(compiled),
        localName: (local) => local.replace(/^src\/faults\//, "").replace(/^src\//, "rsbmalloc/"),
      });
      return [name, bytes] as const;
    }),
  );
  return archive(Object.fromEntries(objects));
}

/** Returns a static library with these members. Dates, owners and modes are constant. */
async function archive(members: Readonly<Record<string, Uint8Array>>): Promise<Uint8Array> {
  const command = ["ar", "rcsD", "library.a", ...Object.keys(members)];
  const files = await runLLVM(command, { ...members }, { fetchProgress: () => {} });
  return files!["library.a"] as Uint8Array;
}

/** Writes a file and renames it into place, so that nobody reads a half-written one. */
async function publish(file: string, write: (to: string) => Promise<void>): Promise<void> {
  const product = path.join(ROOT, file);
  const unfinished = `${product}.${process.pid}`;
  await mkdir(path.dirname(product), { recursive: true });
  await write(unfinished);
  await rename(unfinished, product);
  console.log(file);
}

async function build(): Promise<void> {
  for (const row of LIBRARIES) {
    const bytes = await library(row);
    await publish(row.file, (to) => writeFile(to, bytes));
  }
  for (const { from, file } of COPIES) await publish(file, (to) => copyFile(path.join(ROOT, from), to));
  for (const { file, constants } of LAYOUTS) {
    const heapLayout = await describeLayout(constants);
    await publish(file, (to) => writeFile(to, `${JSON.stringify(heapLayout, null, 2)}\n`));
  }
  for (const { file, constants, entries, options, names } of MODULES) {
    const { module, stateSize } = await compileCore(entries, constants, options);
    const bytes = writeStandalone(module, names, { stateSize, stateAlignment: STATE_ALIGNMENT });
    await publish(file, (to) => writeFile(to, bytes));
  }
}

await runCommand(build);
