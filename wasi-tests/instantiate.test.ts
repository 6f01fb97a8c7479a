/** `instantiate`, which makes a typed heap of the stand-alone module. heap-*.test.ts test the heap's functions. */
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { HEADER } from "../npm/binary-format.ts";
import { instantiate, type ModuleSource, type Options } from "../npm/index.ts";
import { WASM_PAGE } from "../npm/webassembly.ts";
import { ROOT } from "../tools/command.ts";
import { checkHeap } from "./heap-check.ts";
import { inPage } from "./support-browser.ts";
import { needs, refusal, temporaryFolder } from "./support.ts";

const FILE = new URL("../lib/rsbmalloc.wasm", import.meta.url);
const FOLDER = temporaryFolder();

/** The message with which `instantiate` refuses these options. */
async function messageFor(options: object): Promise<string> {
  const message = await refusal(instantiate(options as Options));
  assert.match(message, /^rsbmalloc: /);
  return message;
}

test("the module may be given as a file's URL or path, as bytes, compiled, or as a response", async () => {
  const bytes = await readFile(FILE);
  const response = () => new Response(bytes, { headers: { "content-type": "application/wasm" } });
  const sources: ModuleSource[] = [
    FILE,
    FILE.href,
    path.relative("", fileURLToPath(FILE)),
    bytes,
    new Uint8Array(bytes).buffer,
    new WebAssembly.Module(bytes),
    response(),
    Promise.resolve(response()),
  ];
  for (const module of sources) assert.ok((await instantiate({ module })).malloc(8) > 0);
});

test("a heap has a new memory of its own by default, with the limits asked for", async () => {
  const { memory } = await instantiate();
  assert.is(memory.buffer.byteLength, WASM_PAGE);
  const small = await instantiate({ initial: 2, maximum: 3 });
  assert.is(small.memory.buffer.byteLength, 2 * WASM_PAGE);
  assert.is(small.malloc(3 * WASM_PAGE), 0);
  assert.is(small.errno, 48);
  assert.ok(small.malloc(WASM_PAGE) > 0);
});

test("a heap in a given memory touches nothing below that memory's end", async () => {
  const memory = new WebAssembly.Memory({ initial: 3 });
  new Uint8Array(memory.buffer).fill(0xab);
  const heap = await instantiate({ memory });
  assert.is(heap.memory, memory);
  for (let size = 1; size < 300_000; size *= 2) {
    const block = heap.malloc(size);
    assert.ok(block > 3 * WASM_PAGE);
    new Uint8Array(memory.buffer).fill(1, block, block + size);
  }
  assert.ok(new Uint8Array(memory.buffer, 0, 3 * WASM_PAGE).every((byte) => byte === 0xab));
});

test("a heap in a given memory with heapBase uses the memory from there on, and nothing below", async () => {
  const memory = new WebAssembly.Memory({ initial: 4 });
  const base = 70_001;
  new Uint8Array(memory.buffer, 0, base).fill(0xab);
  const heap = await instantiate({ memory, heapBase: base });
  const block = heap.malloc(100_000);
  assert.ok(block > base && block + 100_000 <= 4 * WASM_PAGE);
  assert.is(memory.buffer.byteLength, 4 * WASM_PAGE);
  assert.ok(new Uint8Array(memory.buffer, 0, base).every((byte) => byte === 0xab));
  checkHeap(memory.buffer, heap.state, { live: [block], foreign: [[0, heap.state + 1]] });
});

test("two heaps in one memory do not overwrite each other's blocks", async () => {
  const memory = new WebAssembly.Memory({ initial: 0 });
  const heaps = [await instantiate({ memory }), await instantiate({ memory })];
  const blocks = new Map<number, number>();
  for (let round = 0; round < 2000; ++round) {
    const size = (round * 37) % 9000;
    const block = heaps[round % 2]!.malloc(size);
    new Uint8Array(memory.buffer, block, size).fill(round);
    blocks.set(block, round);
  }
  for (const [block, round] of blocks) {
    const size = (round * 37) % 9000;
    assert.ok(new Uint8Array(memory.buffer, block, size).every((byte) => byte === (round & 0xff)));
  }
});

test("a heap's exports, for other modules to import, and its own functions work on the same blocks", async () => {
  const heap = await instantiate();
  const { malloc, free, rsbrealloc } = heap.exports;
  const block = malloc!(100)!;
  const moved = rsbrealloc!(block, 1000)!;
  assert.ok(heap.malloc_usable_size(moved) >= 1000);
  free!(moved);
  // mallinfo handles all events, so the block's memory is free afterwards.
  assert.is(heap.mallinfo().inUse, 0);
  assert.is(heap.malloc(1000), moved);
});

test("errno can be read and set", async () => {
  const heap = await instantiate({ maximum: 2 });
  assert.is(heap.errno, 0);
  heap.malloc(WASM_PAGE * 2);
  assert.is(heap.errno, 48);
  heap.errno = 0;
  assert.is(heap.errno, 0);
});

test("numbers that are not sizes are refused with a RangeError", async () => {
  const heap = await instantiate();
  for (const size of [-1, 1.5, NaN, 2 ** 32, Infinity]) {
    assert.throws(
      () => heap.malloc(size),
      (error: unknown) => error instanceof RangeError && error.message.startsWith("rsbmalloc: malloc: "),
    );
  }
});

test("options and modules that cannot work are refused with a one-line error", async () => {
  assert.match(
    await messageFor({ memory: new WebAssembly.Memory({ initial: 1, maximum: 1 }) }),
    "larger maximum",
  );
  assert.match(await messageFor({ memory: {} as WebAssembly.Memory }), "not a WebAssembly.Memory");
  const shared = new WebAssembly.Memory({ initial: 1, maximum: 9, shared: true });
  assert.match(await messageFor({ memory: shared }), "shared");
  assert.match(await messageFor({ initial: 3, maximum: 2 }), "3 to 2 pages");
  assert.match(
    await messageFor({ module: new URL("nothing.wasm", import.meta.url) }),
    /cannot load .*nothing\.wasm/,
  );
  assert.match(await messageFor({ module: fileURLToPath(import.meta.url) }), "cannot load");
  assert.match(await messageFor({ module: new Response("", { status: 404 }) }), "404");
  assert.match(await messageFor({ module: Uint8Array.of(1, 2, 3, 4) }), "cannot load");
  assert.match(await messageFor({ module: HEADER }), "not rsbmalloc.wasm");
  const compiling = WebAssembly.compile(HEADER) as Promise<unknown> as Promise<Response>;
  assert.match(await messageFor({ module: compiling }), "neither a module nor bytes, a URL or a response");
  assert.match(
    await messageFor({ memory: new WebAssembly.Memory({ initial: 1 }), heapBase: -5 }),
    "heapBase",
  );
});

needs("chromium")("a bundled instantiate works in a browser, with the module beside the bundle", async () => {
  const outfile = path.join(FOLDER, "npm", "index.js");
  await build({ entryPoints: [path.join(ROOT, "npm", "index.ts")], bundle: true, format: "esm", outfile });
  mkdirSync(path.join(FOLDER, "lib"));
  copyFileSync(FILE, path.join(FOLDER, "lib", "rsbmalloc.wasm"));
  writeFileSync(path.join(FOLDER, "index.html"), "<!doctype html><title>instantiate</title>");
  const script = `(async () => {
    const { instantiate } = await import("./npm/index.js");
    const heap = await instantiate();
    const fetched = await instantiate({ module: fetch("lib/rsbmalloc.wasm") });
    const missing = await instantiate({ module: "nothing.wasm" }).catch((error) => error.message);
    return [heap.malloc_usable_size(heap.malloc(1000)), fetched.malloc(1) > 0, missing];
  })()`;
  await inPage(FOLDER, async (page) => {
    await page.goto("/");
    const [usable, works, missing] = (await page.evaluate(script)) as [number, boolean, string];
    assert.ok(usable >= 1000 && works);
    assert.match(missing, /^rsbmalloc: cannot load the module from nothing\.wasm: /);
  });
});

test.run();
