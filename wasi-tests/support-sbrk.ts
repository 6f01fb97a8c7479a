/** The core as built for Emscripten, on a memory whose break the test moves too, as other callers of `sbrk` do. */
import { compile } from "../cabi/core.ts";
import { ENOMEM, type RawExports } from "../npm/index.ts";
import { WASM_PAGE } from "../npm/webassembly.ts";

/** Addresses of errno and of the allocator's state. A heap must begin behind the first wasm page. */
const ERRNO = 16;
export const STATE = 4096;
/** `sbrk` rounds up to multiples of this, so that the break stays aligned for any object. */
export const BREAK_ALIGNMENT = 8;

export interface Setting {
  /** The address where the break is at first. */
  readonly base: number;
  /** The size of memory, in wasm pages. */
  readonly initial: number;
  readonly maximum: number;
  /** The number of instances, which share the heap like threads. By default there is one. */
  readonly threads?: number;
  /**
   * Called by `sbrk` before it looks at the break: what another thread does at that moment. `bytes` is 0 if the heap only
   * asks where the break is. Returns whether `sbrk` may succeed.
   */
  readonly before?: (bytes: number) => boolean;
  /** The value of all the host's random bytes. */
  readonly secret?: number;
}

export interface Program {
  readonly memory: WebAssembly.Memory;
  /** Each instance's exports, and `__errno_location`. */
  readonly instances: readonly RawExports[];
  /** Moves the break up, without calling `before`. Returns the old break; -1 if memory is out. */
  take(bytes: number): number;
}

/** Compiles the core for Emscripten with each of `constants` defined: variants of the build. */
export async function compileForEmscripten(...constants: readonly string[]): Promise<WebAssembly.Module> {
  const hasThreads = constants.includes("RSB_LOCKED") || constants.includes("RSB_MT");
  const entry = hasThreads ? "src/emscripten-threads.ts" : "src/emscripten.ts";
  const isHardened = constants.includes("RSB_HARDENED");
  const { module } = await compile(
    isHardened ? [entry, "src/faults.ts"] : [entry],
    ["RSB_EMSCRIPTEN", ...constants],
    isHardened ? ["--enable", "simd"] : [],
  );
  return new WebAssembly.Module(Uint8Array.from(module));
}

/** Makes instances of a compiled core on a new memory, with an `sbrk` that makes the memory grow as far as it can. */
export function startProgram(
  module: WebAssembly.Module,
  { base, initial, maximum, threads = 1, before = () => true, secret = 0 }: Setting,
): Program {
  const memory = new WebAssembly.Memory({ initial, maximum });
  let end = base;
  const take = (bytes: number): number => {
    const old = end;
    const to = old + Math.ceil(bytes / BREAK_ALIGNMENT) * BREAK_ALIGNMENT;
    // The break never reaches 4 GiB, which would wrap to 0.
    if (to >= 2 ** 32) return -1;
    const missing = Math.ceil(to / WASM_PAGE) - memory.buffer.byteLength / WASM_PAGE;
    if (missing > maximum - memory.buffer.byteLength / WASM_PAGE) return -1;
    if (missing > 0) memory.grow(missing);
    end = to;
    return old;
  };
  const known: Record<string, unknown> = {
    memory,
    __rsb_state: STATE,
    __errno_location: () => ERRNO,
    sbrk(increment: number) {
      const bytes = increment >>> 0;
      const old = before(bytes) ? take(bytes) : -1;
      if (old === -1) new Uint32Array(memory.buffer)[ERRNO / 4] = ENOMEM;
      return old;
    },
    getentropy(at: number, count: number) {
      new Uint8Array(memory.buffer, at, count).fill(secret);
      return 0;
    },
    // A thread that finds the lock held would wait. It traps instead, since this memory is not shared.
    _emscripten_thread_supports_atomics_wait: () => 1,
  };
  const env: WebAssembly.ModuleImports = {};
  for (const { name, kind } of WebAssembly.Module.imports(module))
    env[name] = (known[name] ?? (kind === "global" ? 0 : () => 0)) as WebAssembly.ImportValue;
  const instances = Array.from({ length: threads }, () => {
    const { exports } = new WebAssembly.Instance(module, { env });
    return { ...exports, __errno_location: known.__errno_location } as unknown as RawExports;
  });
  return { memory, instances, take };
}
