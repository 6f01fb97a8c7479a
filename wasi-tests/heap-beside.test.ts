/** The same calls on libc's malloc, which is dlmalloc, and on rsbmalloc in one program: a caller sees no difference. */
import { readFile } from "node:fs/promises";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ENOMEM } from "../npm/index.ts";
import { build } from "../tools/compiler.ts";
import { library } from "../tools/libraries.ts";
import { startReactor, type Reactor } from "../tools/wasi.ts";
import {
  PTRDIFF_MAX,
  assertKept,
  calls,
  emptyModel,
  make,
  release,
  type Api,
  type Call,
} from "./support-heap.ts";
import { withCompilers } from "./support.ts";

const PROGRAM = ["wasi-tests/programs/two-heaps.c", library("wasm32-wasi", "prefixed")];

/** The functions that every libc for WASI has. */
const NAMES = [
  "malloc",
  "free",
  "calloc",
  "realloc",
  "aligned_alloc",
  "posix_memalign",
  "malloc_usable_size",
] as const;
const exported = [...NAMES, ...NAMES.map((name) => `rsb${name}`), "errno_address"];

/** One of the program's two heaps. Functions that libc lacks are made from those that it has. */
function heapOf({ exports, memory }: Reactor, prefix: "" | "rsb"): Api {
  type Exported = (...numbers: number[]) => number;
  const errno = (exports["errno_address"] as Exported)() / 4;
  const call = (name: (typeof NAMES)[number], ...numbers: number[]) =>
    (exports[prefix + name] as Exported)(...numbers) >>> 0;
  const words = () => new Uint32Array(memory.buffer);
  const absent = () => assert.unreachable("libc has no such function") as never;
  return {
    memory,
    get errno() {
      return words()[errno]!;
    },
    set errno(value) {
      words()[errno] = value;
    },
    malloc: (size) => call("malloc", size),
    free: (block) => void call("free", block),
    calloc: (count, size) => call("calloc", count, size),
    realloc: (block, size) => call("realloc", block, size),
    reallocarray: (block, count, size) => call("realloc", block, count * size),
    aligned_alloc: (alignment, size) => call("aligned_alloc", alignment, size),
    memalign: (alignment, size) => call("aligned_alloc", alignment, size),
    posix_memalign: (result, alignment, size) => call("posix_memalign", result, alignment, size),
    malloc_usable_size: (block) => call("malloc_usable_size", block),
    free_sized: (block) => void call("free", block),
    free_aligned_sized: (block) => void call("free", block),
    valloc: absent,
    pvalloc: absent,
    page_alloc: absent,
    page_realloc: absent,
    page_free: absent,
  };
}

await withCompilers((compiler, add) => {
  const program = async (): Promise<WebAssembly.Module> => {
    const linkFlags = exported.map((name) => `-Wl,--export=${name}`);
    const file = await build(compiler, { inputs: PROGRAM, model: "reactor", linkFlags });
    return WebAssembly.compile(await readFile(file));
  };

  add("random calls have the same results on both heaps, and each keeps its blocks' contents", async () => {
    const module = await program();
    const run = async (sequence: readonly Call[]) => {
      const reactor = await startReactor("node", module);
      const heaps = [heapOf(reactor, ""), heapOf(reactor, "rsb")] as const;
      const models = [emptyModel(), emptyModel()] as const;
      for (const step of sequence) heaps.forEach((heap, which) => make(heap, models[which]!, step));
      assert.equal(models[0].seen, models[1].seen);
      heaps.forEach((heap, which) => {
        assertKept(heap, models[which]!);
        while (models[which]!.blocks.length > 0) release(heap, models[which]!, 0);
      });
    };
    const sequences = fc.array(calls(false), { maxLength: 60, size: "max" });
    await fc.assert(fc.asyncProperty(sequences, run), { numRuns: 200, includeErrorInReport: true });
  });

  add("calls that cannot succeed return NULL and set ENOMEM on both heaps", async () => {
    const reactor = await startReactor("node", await program());
    for (const heap of [heapOf(reactor, ""), heapOf(reactor, "rsb")]) {
      const block = heap.malloc(100);
      for (const call of [
        () => heap.malloc(PTRDIFF_MAX + 1),
        () => heap.malloc(2 ** 32 - 1),
        () => heap.calloc(2 ** 16, 2 ** 16),
        () => heap.calloc(2, 2 ** 31),
        () => heap.realloc(block, 2 ** 32 - 1),
        () => heap.aligned_alloc(64, 2 ** 32 - 1),
      ]) {
        heap.errno = 0;
        assert.is(call(), 0);
        assert.is(heap.errno, ENOMEM);
      }
      assert.ok(heap.malloc_usable_size(block) >= 100);
    }
  });
});

test.run();
