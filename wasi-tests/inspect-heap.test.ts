/** The heap reader of the inspector: its counts, the bugs that it detects in a heap, and its answer to a damaged one. */
import { readFile } from "node:fs/promises";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { instantiate, type Heap } from "../npm/index.ts";
import { formatHtml, formatText, largeSizes, readHeaps } from "../npm/inspect/index.ts";
import { build, findCompiler } from "../tools/compiler.ts";
import { library } from "../tools/libraries.ts";
import { startReactor } from "../tools/wasi.ts";
import { LAYOUTS, SIZES, checkRounding, fill, reportOf } from "./support-inspect.ts";

test("the reader reports the same numbers as mallinfo", async () => {
  const heap = await instantiate();
  assert.equal(readHeaps(heap.memory.buffer, LAYOUTS), []);
  fill(heap, SIZES);
  const [report, ...others] = readHeaps(heap.memory.buffer, LAYOUTS);
  assert.equal(others, []);
  const info = heap.mallinfo();
  assert.equal(
    [report!.state, report!.heap, report!.inUse, report!.free, report!.peak],
    [heap.state, info.heap, info.inUse, info.free, info.peak],
  );
  assert.equal(report!.damage, []);
});

test("once all blocks are freed nothing is in use, and the regions cover the heap without gaps", async () => {
  const heap = await instantiate();
  for (const block of fill(heap, SIZES)) heap.free(block);
  const [report] = readHeaps(heap.memory.buffer, LAYOUTS);
  assert.is(report!.inUse, 0);
  let at = report!.start;
  for (const { address, pages } of report!.regions) {
    assert.is(address, at);
    at += pages * report!.pageSize;
  }
  assert.is(at, report!.end);
});

test("large blocks are grouped by size, the size with the most bytes first", async () => {
  const heap = await instantiate();
  const KIB = 1024;
  // Twelve sizes: two more than the reports show one by one.
  const sizes = [20, 20, 20, 40, 60, 64, 66, 68, 70, 72, 74, 76, 78, 2048].map((kib) => kib * KIB);
  const blocks = sizes.map((size) => heap.malloc(size));
  // Freed blocks do not count, whether or not the heap has handled their events.
  for (const size of [100, 200]) heap.free(heap.malloc(size * KIB));
  const [report] = readHeaps(heap.memory.buffer, LAYOUTS);
  assert.equal(largeSizes(report!), [
    ...[2048, 78, 76, 74, 72, 70, 68, 66, 64].map((kib) => ({
      size: kib * KIB,
      blocks: 1,
      bytes: kib * KIB,
    })),
    // As many bytes as the three blocks of 20 KiB have together.
    { size: 60 * KIB, blocks: 1, bytes: 60 * KIB },
    { size: 20 * KIB, blocks: 3, bytes: 60 * KIB },
    { size: 40 * KIB, blocks: 1, bytes: 40 * KIB },
  ]);
  const text = formatText(reportOf(report!));
  assert.not.match(text, "slots of");
  assert.match(
    text,
    /^14 large blocks, 2\.7 MiB; .*\n\n *large blocks of +blocks +in use\n +2,048 KiB +1 +2\.0 MiB\n/m,
  );
  assert.match(text, /^ +60 KiB +1 +60\.0 KiB\nand 2 more sizes: 4 blocks, 100 KiB\n\n/m);

  for (const block of blocks.slice(3)) heap.free(block);
  const [less] = readHeaps(heap.memory.buffer, LAYOUTS);
  assert.match(formatText(reportOf(less!)), /^ +20 KiB +3 +60\.0 KiB\n\n/m);
  for (const block of blocks.slice(0, 3)) heap.free(block);
  const [none] = readHeaps(heap.memory.buffer, LAYOUTS);
  assert.not.match(formatText(reportOf(none!)), "large blocks of");
});

test("the reader counts the blocks in use of a hardened heap, and reports a fault", async () => {
  const file = await build(await findCompiler(), {
    inputs: ["wasi-tests/programs/hardened-calls.c", library("wasm32-wasi", "hardened")],
    flags: ["-fno-builtin"],
    includes: ["include"],
    model: "reactor",
    linkFlags: ["rsbmalloc", "rsbfree"].map((name) => `-Wl,--export=${name}`),
  });
  const { exports, memory } = await startReactor("node", await WebAssembly.compile(await readFile(file)));
  const { rsbmalloc, rsbfree } = exports as Record<string, (n: number) => number>;
  const blocks: number[] = [];
  for (const [index, size] of SIZES.entries()) {
    blocks.push(rsbmalloc!(size + 1));
    if (index % 3) rsbfree!(blocks.splice(index % blocks.length, 1)[0]!);
    if (index % 40) continue;
    const [report] = readHeaps(memory.buffer, LAYOUTS);
    const used = report!.bins.reduce((sum, { usedSlots }) => sum + usedSlots, report!.large.blocks);
    assert.equal([report!.damage, used], [[], blocks.length]);
  }
  rsbfree!(blocks[0]!);
  assert.throws(() => rsbfree!(blocks[0]!));
  const [report] = readHeaps(memory.buffer, LAYOUTS);
  assert.equal(report!.fault, { message: "double free", block: blocks[0], size: 0 });
});

test("the reader tells two heaps in one memory apart", async () => {
  const first = await instantiate();
  // The second heap's state lies behind the first heap. When a linker places both, this cannot happen.
  const used = [first.malloc_usable_size(first.malloc(100))];
  const second = await instantiate({ memory: first.memory });
  used.push(second.malloc_usable_size(second.malloc(50_000)));
  const inUse = () => readHeaps(first.memory.buffer, LAYOUTS).map(({ state, inUse }) => [state, inUse]);
  assert.equal(inUse(), [
    [first.state, used[0]],
    [second.state, used[1]],
  ]);
  // Now the second heap lies in a gap of the first one.
  used[0]! += first.malloc_usable_size(first.malloc(100_000));
  assert.equal(inUse(), [
    [first.state, used[0]],
    [second.state, used[1]],
  ]);
});

test("a copy of the state inside a block is not taken for a heap", async () => {
  const heap = await instantiate();
  const { STATE_SIZE } = LAYOUTS[0]!;
  const copies = [heap.malloc(STATE_SIZE), heap.malloc(100_000)];
  for (const copy of copies)
    new Uint8Array(heap.memory.buffer).copyWithin(copy, heap.state, heap.state + STATE_SIZE);
  assert.equal(
    readHeaps(heap.memory.buffer, LAYOUTS).map(({ state }) => state),
    [heap.state],
  );
});

test("a magic number alone is not taken for a heap, whatever follows it", async () => {
  const heap = await instantiate();
  fill(heap, SIZES);
  for (const { MAGIC, STATE_MAGIC } of LAYOUTS)
    for (const rest of [0, 9, 0x01020304, 0xffffffff]) {
      const words = new Uint32Array(16384).fill(rest);
      words[(4096 + STATE_MAGIC) / 4] = MAGIC;
      assert.equal(readHeaps(words.buffer, LAYOUTS), []);
      // In front of a heap it does not hide that.
      const memory = heap.memory.buffer.slice();
      new Uint32Array(memory).set([rest, MAGIC, rest], 4);
      assert.equal(
        readHeaps(memory, LAYOUTS).map(({ state }) => state),
        [heap.state],
      );
    }
});

test("a heap without a map is damaged", async () => {
  const heap = await instantiate();
  heap.malloc(100);
  const words = new Uint32Array(heap.memory.buffer);
  const { STATE_MAP, STATE_START, STATE_END } = LAYOUTS.find(({ HARDENED }) => HARDENED === 0)!;
  for (const field of [STATE_MAP, STATE_START, STATE_END]) words[(heap.state + field) / 4] = 0;
  assert.throws(() => readHeaps(heap.memory.buffer, LAYOUTS), /^the heap .* is damaged: /);
});

test("what is lost to rounding is the most that requests for slots of a size can lose", async () => {
  const heap = await instantiate();
  checkRounding(heap.memory, heap.malloc);
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
  "a free of an address that is no block": [(heap) => heap.free(16), /0x10 was freed, where no block starts/],
};

for (const [name, [misuse, damage]] of Object.entries(FAULTS)) {
  test(`the reader reports ${name}`, async () => {
    const heap = await instantiate();
    misuse(heap, fill(heap, Array<number>(30).fill(24)));
    const [report] = readHeaps(heap.memory.buffer, LAYOUTS);
    assert.match(report!.damage.join("\n"), damage);
  });
}

test("a damaged heap gives a report or a one-line error", async () => {
  const heap = await instantiate();
  fill(heap, SIZES);
  const sound = new Uint8Array(heap.memory.buffer).slice();
  const layout = LAYOUTS[0]!;
  // Half of the writes hit the state, where they do the most damage.
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
        for (const report of readHeaps(memory.buffer, LAYOUTS)) {
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

test.run();
