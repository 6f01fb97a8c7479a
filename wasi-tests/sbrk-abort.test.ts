/**
 * Emscripten's default: `sbrk` ends the program instead of failing. A call that can do without more memory must not ask
 * for it once linear memory is used up.
 */
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { RawExports } from "../npm/index.ts";
import { WASM_PAGE } from "../npm/webassembly.ts";
import { PAGE, adjacentOfAll } from "./support-heap.ts";
import { compileForEmscripten, startProgram } from "./support-sbrk.ts";

const END = 8 * WASM_PAGE;
/** What memory is filled with: blocks of one page, its guard in the hardened build included. */
const FILL = 2000;
/** A large block, in bytes. */
const BLOCK = 20_480;

/** Makes instances of the core that share a memory of 8 wasm pages. */
function start(module: WebAssembly.Module, threads = 1) {
  let isFull = false;
  const { instances, take } = startProgram(module, {
    base: WASM_PAGE,
    initial: END / WASM_PAGE,
    maximum: END / WASM_PAGE,
    threads,
    before(bytes) {
      if (isFull && take(0) + bytes > END) throw new Error("Aborted(OOM)");
      return true;
    },
  });
  /** From now on, `sbrk` ends the program if it is asked for more than there is. */
  const close = () => {
    isFull = true;
  };
  /** Uses up all pages, and all slots for `size` bytes. From then on `sbrk` ends the program. */
  const fill = (size = FILL) => {
    const { page_alloc, malloc } = instances[0]!;
    while (page_alloc!(FILL, 1) !== 0);
    while (malloc!(size) !== 0);
    close();
  };
  return { instances, fill, close };
}

const release = await compileForEmscripten();
const compact = await compileForEmscripten("RSB_COMPACT");
const threads = await compileForEmscripten("RSB_MT");
const hardened = await compileForEmscripten("RSB_HARDENED");

for (const [name, module] of [
  ["release", release],
  ["compact", compact],
  ["hardened", hardened],
] as const) {
  for (const [from, to] of [
    [5000, 100],
    [40_000, 100],
    [40_000, 10_000],
  ] as const) {
    test(`${name}: realloc from ${from} to ${to} bytes leaves the block where it is`, () => {
      const { instances, fill } = start(module);
      const { malloc, realloc } = instances[0]!;
      const block = malloc!(from);
      fill();
      assert.is(realloc!(block, to), block);
    });
  }
}

test("the first malloc of a thread takes a free slot, if need be without a cache", () => {
  const { instances, fill } = start(threads, 2);
  const [one, other] = instances as [RawExports, RawExports];
  const blocks = Array.from({ length: 200 }, () => one.malloc!(500));
  fill();
  // The pages stay in use, so that there is none for a cache.
  for (const [i, block] of blocks.entries()) if (i % 2) one.free!(block);
  assert.is.not(other.malloc!(500), 0);
});

for (const [name, module] of [
  ["release", release],
  ["compact", compact],
  ["locked", await compileForEmscripten("RSB_LOCKED")],
  ["threads", threads],
] as const) {
  test(`${name}: memory is used up to less than a block before sbrk would end the program`, () => {
    for (const pages of [6, 16, 32]) {
      for (let base = WASM_PAGE; base < 2 * WASM_PAGE; base += 9000) {
        const end = pages * WASM_PAGE;
        let unused = 0;
        const { instances, take } = startProgram(module, {
          base,
          initial: pages,
          maximum: pages,
          before(bytes) {
            const place = take(0);
            if (place + bytes <= end) return true;
            unused = end - place;
            throw new Error("Aborted(OOM)");
          },
        });
        assert.throws(() => {
          while (instances[0]!.malloc!(BLOCK) !== 0);
        }, /Aborted/);
        // What the block needs beside its own pages: a page of Runs, and the page map, if it has to move.
        const beside = 2 * PAGE + end / 128;
        assert.ok(
          unused < BLOCK + beside,
          `${unused} bytes were left of ${pages} wasm pages, with the break at ${base} first`,
        );
      }
    }
  });

  test(`${name}: a large block grows into the pages of free slots behind it`, () => {
    const { instances, close } = start(module);
    const { malloc, free, realloc, page_alloc } = instances[0]!;
    // Now the thread has its cache.
    malloc!(1);
    for (const page of adjacentOfAll(() => page_alloc!(PAGE, 1), BLOCK / PAGE + 1)) free!(page);
    const block = malloc!(BLOCK);
    const slot = malloc!(1000);
    assert.is(slot, block + BLOCK);
    free!(slot);
    close();
    assert.is(realloc!(block, BLOCK + PAGE), block);
  });

  test(`${name}: a block of a page at the end of memory that grows to 13,000 bytes moves to a free slot`, () => {
    const { instances, close } = start(module);
    const { malloc, free, realloc, page_alloc } = instances[0]!;
    // The first two runs have one slot each, the third has two.
    const slots = Array.from({ length: 4 }, () => malloc!(13_000));
    let last = 0;
    for (let page; (page = page_alloc!(PAGE, 1)) !== 0;) last = Math.max(last, page);
    assert.is(last, END - PAGE);
    free!(slots[3]!);
    close();
    assert.is(realloc!(last, 13_000), slots[3]!);
  });

  test(`${name}: a slot is found in the last free pages, even if they are fewer than its bin usually takes`, () => {
    for (const [size, pages] of [
      [1100, 1],
      [4200, 3],
    ] as const) {
      const { instances, close } = start(module);
      const { malloc, free, page_alloc } = instances[0]!;
      // Now the thread has its cache.
      malloc!(1);
      const adjacent = adjacentOfAll(() => page_alloc!(PAGE, 1), pages);
      close();
      for (const page of adjacent) free!(page);
      assert.is(malloc!(size), adjacent[0]);
    }
  });

  test(`${name}: malloc makes do with a short run if a long one would leave no page for its Run`, () => {
    // How many pages are in use decides whether one of them has a spare Run.
    for (let singles = 0; singles < 70; ++singles) {
      for (let pages = 2; pages < 8; ++pages) {
        let isAsked = false;
        const { instances } = startProgram(module, {
          base: WASM_PAGE,
          initial: 6,
          maximum: 6,
          before(bytes) {
            isAsked ||= bytes > 0;
            return true;
          },
        });
        const { malloc, free, page_alloc } = instances[0]!;
        for (let i = 0; i < 120; ++i) malloc!(500);
        for (let i = 0; i < singles; ++i) page_alloc!(1, 1);
        let last = 0;
        for (let block; (block = page_alloc!(pages * PAGE, 1)) !== 0;) last = block;
        while (page_alloc!(PAGE, 1) !== 0);
        while (malloc!(500) !== 0);
        if (last === 0) continue;
        free!(last);
        page_alloc!(PAGE, 1);
        isAsked = false;
        if (malloc!(500) !== 0)
          assert.not(isAsked, `sbrk was asked, with ${pages - 1} pages free and ${singles} blocks of a page`);
      }
    }
  });
}

test("hardened: a large block that grows moves to the pages of slots in quarantine", () => {
  const { instances, close } = start(hardened);
  const { malloc, free, realloc } = instances[0]!;
  const slots = Array.from({ length: 8 }, () => malloc!(15_000));
  let last = 0;
  for (let block; (block = malloc!(40_000)) !== 0;) last = Math.max(last, block);
  close();
  for (const slot of slots) free!(slot);
  assert.is.not(realloc!(last, 80_000), 0);
});

test("hardened: a large block begins where one was just freed, as there is no room elsewhere", () => {
  const { instances, fill } = start(hardened);
  const { malloc, free } = instances[0]!;
  const block = malloc!(40_000);
  fill();
  free!(block);
  assert.is(malloc!(40_000), block);
});

test("hardened: a slot is taken from quarantine", () => {
  const { instances, fill } = start(hardened);
  const { malloc, free } = instances[0]!;
  const block = malloc!(500);
  fill(500);
  free!(block);
  assert.is(malloc!(500), block);
});

test.run();
