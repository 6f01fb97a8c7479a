import { existsSync } from "node:fs";
import path from "node:path";
import { Unavailable } from "../output.ts";
import { BENCH, ROOT } from "../paths.ts";
import { compile } from "./clang.ts";
import { debianSource } from "./debian.ts";

/** An allocator that can be linked to a driver: object files or archives, in the order of the command line. */
export interface Peer {
  readonly name: string;
  readonly objects: readonly string[];
}

export type Optimization = "speed" | "size";

interface PeerSource {
  readonly name: string;
  objects(optimization: Optimization): Promise<string[]>;
}

const LIBRARY = path.join(ROOT, "lib", "wasm32-wasi", "librsbmallocc.a");
const EMMALLOC = "/usr/share/emscripten/system/lib/emmalloc.c";

const sources: readonly PeerSource[] = [
  {
    name: "rsbmalloc",
    async objects() {
      if (!existsSync(LIBRARY))
        throw new Unavailable("lib/wasm32-wasi/librsbmallocc.a is missing: run make lib");
      return [LIBRARY];
    },
  },
  // What a WASI program gets when it does nothing: the linker finds it in libc.a by itself.
  { name: "dlmalloc", objects: async () => [] },
  {
    name: "emmalloc",
    async objects(optimization) {
      if (!existsSync(EMMALLOC))
        throw new Unavailable("its source is missing: install Debian's package emscripten");
      // Emscripten compiles it with -O2. It reads its regions' words through pointers of other types: a clang newer
      // than the one it was written for breaks its realloc unless told so.
      const level = optimization === "size" ? "-Oz" : "-O2";
      const define = `-DEMMALLOC_SOURCE="${EMMALLOC}"`;
      return [
        await object(
          "emmalloc.c",
          [level, "-fno-strict-aliasing", "-I", path.join(BENCH, "peers", "include"), define],
          [EMMALLOC],
        ),
      ];
    },
  },
  {
    name: "mimalloc",
    async objects(optimization) {
      const folder = await debianSource("mimalloc");
      const level = optimization === "size" ? "-Oz" : "-O3";
      const include = ["-I", path.join(folder, "include"), "-I", path.join(folder, "src")];
      return [await object("mimalloc.c", [level, ...include], [path.join(folder, "src", "static.c")])];
    },
  },
];

export const peerNames = sources.map(({ name }) => name);

/** A peer by name, or Unavailable with the reason why it cannot be had. */
export async function peer(name: string, optimization: Optimization = "speed"): Promise<Peer> {
  const source = sources.find((s) => s.name === name);
  if (!source) throw new Unavailable(`no such allocator (there are ${peerNames.join(", ")})`);
  return { name, objects: await source.objects(optimization) };
}

/** A further build of rsbmalloc, to be compared with the one in lib/. */
export function otherLibrary(name: string, file: string): Peer {
  if (!existsSync(file)) throw new Unavailable(`${file} is missing`);
  return { name, objects: [path.resolve(file)] };
}

/** Not an allocator: what is taken off every time, so that the replaying loop does not count. */
export async function nullAllocator(): Promise<Peer> {
  return { name: "null", objects: [await object("null.c", ["-O2"], [])] };
}

async function object(file: string, args: readonly string[], inputs: readonly string[]): Promise<string> {
  const source = path.join(BENCH, "peers", file);
  return compile(["-c", "-DNDEBUG", "-fno-builtin", "-w", ...args, source], [source, ...inputs], ".o");
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

/** Space for `words` 32-bit words of operations and `slots` blocks of `bytesPerSlot`, rounded up so that few modules do for all workloads. */
export function layout(words: number, slots: number, bytesPerSlot: number): Layout {
  const [opsSize, blocksSize] = [words * 4, slots * bytesPerSlot];
  const hole = Math.max(65_536, 2 ** Math.ceil(Math.log2(opsSize + blocksSize)));
  return { ops: STACK, blocks: STACK + opsSize, hole, data: STACK + hole };
}

/** Links a driver of bench/c with a peer, in this layout. Returns the module's path. */
export async function linkDriver(driver: string, { objects }: Peer, { data }: Layout): Promise<string> {
  const source = path.join(BENCH, "c", `${driver}.c`);
  const header = path.join(BENCH, "c", "workload.h");
  const driverObject = await compile(["-c", "-O3", "-fno-builtin", source], [source, header], ".o");
  const place = `-Wl,--stack-first,-z,stack-size=${STACK},--global-base=${data}`;
  const link = ["-O3", "-mexec-model=reactor", place, "-Wl,--strip-debug"];
  return compile([...link, driverObject, ...objects], [driverObject, ...objects], ".wasm");
}
