/** The allocators that are compared, and how programs are linked with them. */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { copyFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { cached } from "../../tools/cache.ts";
import { ROOT, UserError } from "../../tools/command.ts";
import type { Program } from "../../tools/compiler.ts";
import { library } from "../../tools/libraries.ts";
import { BENCH, BINARYEN, BINARYEN_MANIFEST, link, object } from "../toolchain.ts";
import { debianSource } from "./debian.ts";
import { linkTlsf } from "./tlsf.ts";

const run = promisify(execFile);

/** An allocator that can be linked to a program. */
export interface Peer {
  readonly name: string;
  /** Links a program with the allocator. Returns the module's path. */
  readonly link: (program: Program) => Promise<string>;
}

type Optimization = "speed" | "size";

interface PeerSource {
  readonly name: string;
  /** Whether it is measured only on request. */
  readonly control?: boolean;
  /** Returns objects and archives in the order for the linker; or, if that is not enough, a function that links. */
  objects(optimization: Optimization): Promise<string[] | Peer["link"]>;
}

const ours = (variant?: string): string => path.join(ROOT, library("wasm32-wasi", variant));
const EMMALLOC = "/usr/share/emscripten/system/lib/emmalloc.c";

const sources: readonly PeerSource[] = [
  {
    name: "rsbmalloc",
    async objects() {
      if (!existsSync(ours())) throw new UserError(`${library("wasm32-wasi")} is missing: run make lib`);
      return [await snapshot(ours())];
    },
  },
  // The default of WASI programs: the linker finds it in libc.a.
  { name: "dlmalloc", objects: async () => [] },
  {
    name: "emmalloc",
    async objects(optimization) {
      if (!existsSync(EMMALLOC))
        throw new UserError("its source was not found: install Emscripten (Debian: emscripten)");
      // Emscripten compiles it with -O2. It reads words of its regions through pointers of other types, so that newer clangs
      // break its realloc without -fno-strict-aliasing.
      const level = optimization === "size" ? "-Oz" : "-O2";
      const define = `-DEMMALLOC_SOURCE="${EMMALLOC}"`;
      return [
        await peerObject(
          "emmalloc.c",
          [level, "-fno-strict-aliasing", define],
          [path.join(BENCH, "peers", "include")],
        ),
      ];
    },
  },
  {
    name: "mimalloc",
    objects: async (optimization) => [await mimalloc([optimization === "size" ? "-Oz" : "-O3"])],
  },
  { name: "tlsf", objects: async () => linkTlsf },
  { name: "bare", control: true, objects: async () => [await peerObject("bare.c", ["-O3", "-fno-builtin"])] },
  {
    name: "wiped",
    control: true,
    objects: async () => [
      await peerObject("wiped.c", ["-O3", "-msimd128"], [path.join(ROOT, "cabi", "include")]),
      await snapshot(ours("prefixed")),
    ],
  },
];

export const peerNames = sources.filter(({ control }) => !control).map(({ name }) => name);

/** Returns a peer by name. Throws a UserError if it is unknown or can't be built. */
export async function peer(name: string, optimization: Optimization = "speed"): Promise<Peer> {
  const source = sources.find((s) => s.name === name);
  if (!source) throw new UserError(`no such allocator: choose from ${peerNames.join(", ")}`);
  const objects = await source.objects(optimization);
  return typeof objects === "function" ? { name, link: objects } : linked(name, objects);
}

/** Returns another build of rsbmalloc, to compare with the one in lib/. Throws a UserError if the file is missing. */
export async function otherLibrary(name: string, file: string): Promise<Peer> {
  if (!existsSync(file)) throw new UserError(`${file} does not exist`);
  return linked(name, [await snapshot(path.resolve(file))]);
}

async function mimalloc(flags: readonly string[]): Promise<string> {
  const folder = await debianSource("mimalloc");
  const include = ["include", "src"].map((f) => path.join(folder, f));
  return peerObject("mimalloc.c", flags, include);
}

/** The allocators that are compared on programs with memory bugs. */
export const bugPeers: Readonly<Record<string, () => Promise<Peer>>> = {
  hardened: () => otherLibrary("hardened", ours("hardened")),
  ...Object.fromEntries(
    ["rsbmalloc", "dlmalloc", "emmalloc", "mimalloc"].map((name) => [name, () => peer(name)]),
  ),
  "mimalloc-secure": async () => linked("secure", [await mimalloc(["-O3", "-DMI_SECURE=4"])]),
};

/** Returns an allocator that does nothing. Its time and size are subtracted from the others'. */
export async function nullAllocator(): Promise<Peer> {
  return linked("null", [await peerObject("null.c", ["-O2"])]);
}

/** Returns an allocator that consists of objects, archives or sources. */
export function linked(name: string, inputs: readonly string[]): Peer {
  return { name, link: (program) => link({ ...program, inputs: [...program.inputs, ...inputs] }) };
}

/** Returns a copy of a library, which stays the same during a run even if the library is rebuilt. */
function snapshot(file: string): Promise<string> {
  return cached({ by: ["copy"], of: [file], extension: ".a" }, (copy) => copyFile(file, copy));
}

function peerObject(
  file: string,
  flags: readonly string[],
  includes: readonly string[] = [],
): Promise<string> {
  return object(path.join(BENCH, "peers", file), {
    flags: ["-DNDEBUG", "-fno-builtin", "-mbulk-memory", "-w", ...flags],
    includes,
  });
}

/** Returns the same allocator, except that wasm-opt runs over the linked programs, as Emscripten does it. */
export function optimized({ name, link: linkPlain }: Peer): Peer {
  return {
    name,
    async link(program) {
      const plain = await linkPlain(program);
      const args = ["-O3", "--all-features"];
      return cached({ by: args, of: [plain, BINARYEN_MANIFEST], extension: ".wasm" }, async (file) => {
        const wasmOpt = path.join(BINARYEN, "bin", "wasm-opt");
        await run(process.execPath, [wasmOpt, plain, ...args, "-o", file]);
      });
    },
  };
}

/*
 * The memory of a driver. The workload lies below the program's data, out of the heap's way:
 *
 *   0          STACK          STACK + hole
 *   | stack    | ops | blocks | data | heap ...
 */
const STACK = 65_536;

/** Where a driver keeps a workload: addresses and sizes in bytes. */
export interface Layout {
  readonly ops: number;
  readonly blocks: number;
  /** Size of the memory for the workload, which an ordinary program would not have. */
  readonly hole: number;
  /** Where the program's data begins. The heap follows the data. */
  readonly data: number;
}

/**
 * Returns a layout for `words` 32-bit words of operations, and `slots` blocks with `bytesPerSlot` bytes of the driver's data
 * each. The hole is rounded up, so that a few modules do for all workloads.
 */
export function layout(words: number, slots: number, bytesPerSlot: number): Layout {
  const [opsSize, blocksSize] = [words * 4, slots * bytesPerSlot];
  const hole = Math.max(65_536, 2 ** Math.ceil(Math.log2(opsSize + blocksSize)));
  return { ops: STACK, blocks: STACK + opsSize, hole, data: STACK + hole };
}

/**
 * When linking with optimization, clang runs wasm-opt if it finds one in PATH. Where that is installed, it would inline some
 * functions into the loop that measures them.
 */
const NO_WASM_OPT = "-O0";

/** Links a driver, one or more files of bench/c, with a peer and in a layout. Returns the module's path. */
export function linkDriver(files: readonly string[], peer: Peer, { data }: Layout): Promise<string> {
  return peer.link({
    inputs: files.map((file) => path.join(BENCH, "c", `${file}.c`)),
    flags: ["-O3", "-fno-builtin", "-mbulk-memory"],
    linkFlags: [NO_WASM_OPT, `-Wl,--stack-first,-z,stack-size=${STACK},--global-base=${data},--strip-debug`],
    model: "reactor",
  });
}

/** Links a program of bench/c with a peer, as small as possible. Returns the module's path. */
export function linkSmall(program: string, peer: Peer): Promise<string> {
  return peer.link({
    inputs: [path.join(BENCH, "c", `${program}.c`)],
    flags: ["-Oz", "-fno-builtin", "-mbulk-memory"],
    // libc's start code would be larger than an allocator.
    linkFlags: [NO_WASM_OPT, "-nostartfiles", "-Wl,--no-entry,--strip-all,--gc-sections"],
  });
}
