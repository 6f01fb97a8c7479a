import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { copyFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { cached } from "../../tools/cache.ts";
import { ROOT, UserError } from "../../tools/command.ts";
import type { Program } from "../../tools/compiler.ts";
import { BENCH, BINARYEN, BINARYEN_MANIFEST, link, object } from "../toolchain.ts";
import { debianSource } from "./debian.ts";
import { linkTlsf } from "./tlsf.ts";

const run = promisify(execFile);

/** An allocator that can be linked to a program. */
export interface Peer {
  readonly name: string;
  /** Links the program with the allocator and returns the module's path. */
  readonly link: (program: Program) => Promise<string>;
}

export type Optimization = "speed" | "size";

interface PeerSource {
  readonly name: string;
  /** Measured only when asked for. */
  readonly control?: boolean;
  /** Object files or archives, in the order of the command line; or, where that does not do, how it is linked. */
  objects(optimization: Optimization): Promise<string[] | Peer["link"]>;
}

const LIBRARY = path.join(ROOT, "lib", "wasm32-wasi", "librsbmallocc.a");
const EMMALLOC = "/usr/share/emscripten/system/lib/emmalloc.c";

const sources: readonly PeerSource[] = [
  {
    name: "rsbmalloc",
    async objects() {
      if (!existsSync(LIBRARY))
        throw new UserError("lib/wasm32-wasi/librsbmallocc.a is missing: run make lib");
      return [await snapshot(LIBRARY)];
    },
  },
  // What a WASI program gets when it does nothing: the linker finds it in libc.a by itself.
  { name: "dlmalloc", objects: async () => [] },
  {
    name: "emmalloc",
    async objects(optimization) {
      if (!existsSync(EMMALLOC))
        throw new UserError("its source is missing: install Debian's package emscripten");
      // Emscripten compiles it with -O2. It reads its regions' words through pointers of other types: a clang newer
      // than the one it was written for breaks its realloc unless told so.
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
      await snapshot(LIBRARY.replace(/\.a$/, "-prefixed.a")),
    ],
  },
];

export const peerNames = sources.filter(({ control }) => !control).map(({ name }) => name);

/** A peer by name, or UserError with the reason why it cannot be had. */
export async function peer(name: string, optimization: Optimization = "speed"): Promise<Peer> {
  const source = sources.find((s) => s.name === name);
  if (!source) throw new UserError(`no such allocator (there are ${peerNames.join(", ")})`);
  const objects = await source.objects(optimization);
  return typeof objects === "function" ? { name, link: objects } : linked(name, objects);
}

/** A further build of rsbmalloc, to be compared with the one in lib/. */
export async function otherLibrary(name: string, file: string): Promise<Peer> {
  if (!existsSync(file)) throw new UserError(`${file} is missing`);
  return linked(name, [await snapshot(path.resolve(file))]);
}

async function mimalloc(flags: readonly string[]): Promise<string> {
  const folder = await debianSource("mimalloc");
  const include = ["include", "src"].map((f) => path.join(folder, f));
  return peerObject("mimalloc.c", flags, include);
}

/** What is compared when it comes to catching bugs. */
export const bugPeers: Readonly<Record<string, () => Promise<Peer>>> = {
  hardened: () => otherLibrary("hardened", LIBRARY.replace(/\.a$/, "-hardened.a")),
  ...Object.fromEntries(
    ["rsbmalloc", "dlmalloc", "emmalloc", "mimalloc"].map((name) => [name, () => peer(name)]),
  ),
  "mimalloc-secure": async () => linked("secure", [await mimalloc(["-O3", "-DMI_SECURE=4"])]),
};

/** Not an allocator: what is taken off every time, so that the replaying loop does not count. */
export async function nullAllocator(): Promise<Peer> {
  return linked("null", [await peerObject("null.c", ["-O2"])]);
}

/** An allocator that object files, archives or sources define. */
export function linked(name: string, inputs: readonly string[]): Peer {
  return { name, link: (program) => link({ ...program, inputs: [...program.inputs, ...inputs] }) };
}

/** A copy of a library that stays as it is while a run lasts, whatever is built meanwhile. */
function snapshot(library: string): Promise<string> {
  return cached({ by: ["copy"], of: [library], extension: ".a" }, (copy) => copyFile(library, copy));
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

/** The same allocator in programs over which wasm-opt runs after linking, as it does for Emscripten's. */
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
 * A driver's memory. The workload lies below the program's own data, out of the heap's way:
 *
 *   0          STACK          STACK + hole
 *   | stack    | ops | blocks | data | heap ...
 */
const STACK = 65_536;

/** Where a driver keeps a workload. Addresses and sizes in bytes. */
export interface Layout {
  readonly ops: number;
  readonly blocks: number;
  /** The memory that the workload takes and a program would not have. */
  readonly hole: number;
  /** The lowest address of the program's own data, which the heap follows. */
  readonly data: number;
}

/**
 * Space for `words` 32-bit words of operations and `slots` blocks of `bytesPerSlot`, rounded up so that few modules do for
 * all workloads.
 */
export function layout(words: number, slots: number, bytesPerSlot: number): Layout {
  const [opsSize, blocksSize] = [words * 4, slots * bytesPerSlot];
  const hole = Math.max(65_536, 2 ** Math.ceil(Math.log2(opsSize + blocksSize)));
  return { ops: STACK, blocks: STACK + opsSize, hole, data: STACK + hole };
}

/**
 * clang runs wasm-opt over a program that it links with optimization, if there is one in PATH: that would inline some
 * functions into the loop that measures them, and on this machine alone.
 */
const NO_WASM_OPT = "-O0";

/** Links a driver of one or more files of bench/c with a peer, in this layout. Returns the module's path. */
export function linkDriver(files: readonly string[], peer: Peer, { data }: Layout): Promise<string> {
  return peer.link({
    inputs: files.map((file) => path.join(BENCH, "c", `${file}.c`)),
    flags: ["-O3", "-fno-builtin", "-mbulk-memory"],
    linkFlags: [NO_WASM_OPT, `-Wl,--stack-first,-z,stack-size=${STACK},--global-base=${data},--strip-debug`],
    model: "reactor",
  });
}

/** Links a program of bench/c with a peer, as small as the linker makes it. Returns the module's path. */
export function linkSmall(program: string, peer: Peer): Promise<string> {
  return peer.link({
    inputs: [path.join(BENCH, "c", `${program}.c`)],
    flags: ["-Oz", "-fno-builtin", "-mbulk-memory"],
    // Without libc's start, which would bring in more than an allocator does.
    linkFlags: [NO_WASM_OPT, "-nostartfiles", "-Wl,--no-entry,--strip-all,--gc-sections"],
  });
}
