/** Growing the heap while another thread takes memory at the same moment. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compile } from "../cabi/core.ts";
import type { RawExports } from "../npm/index.ts";
import { WASM_PAGE } from "../npm/webassembly.ts";
import { PAGE } from "./support-heap.ts";
import { compileForEmscripten, startProgram } from "./support-sbrk.ts";

/** The end of the program's data, and the address of the state of `sbrk` among them. */
const HEAP_BASE = 3 * WASM_PAGE - 16;
const BREAK = WASM_PAGE;

const BUILDS = {
  locked: await compileForEmscripten("RSB_LOCKED"),
  "mt-hardened": await compileForEmscripten("RSB_MT", "RSB_HARDENED"),
};

/**
 * Makes an instance of a core with a lock. Whenever it asks for memory, another thread has just taken `grab()` bytes.
 * `taken` returns the bytes that both have taken together.
 */
function start(grab: () => number, module = BUILDS.locked): { exports: RawExports; taken: () => number } {
  const { instances, take } = startProgram(module, {
    base: HEAP_BASE,
    initial: 4,
    maximum: 1024,
    before(bytes) {
      if (bytes > 0) take(grab());
      return true;
    },
  });
  return { exports: instances[0]!, taken: () => take(0) - HEAP_BASE };
}

for (const grabbed of [16, 2048, 5000, 300_000, 5_000_000]) {
  test(`malloc succeeds although another thread takes ${grabbed} bytes just before memory grows`, () => {
    for (const size of [100, 5000, 200_000]) {
      for (let moment = 0; moment < 10; ++moment) {
        let asked = 0;
        const { exports } = start(() => (asked++ === moment ? grabbed : 0));
        const { malloc, free, malloc_usable_size } = exports;
        const blocks = Array.from({ length: 40 }, () => malloc!(size));
        assert.not.ok(
          blocks.includes(0),
          `malloc ${blocks.indexOf(0)} of ${size} bytes failed; the other thread took memory before request ${moment}`,
        );
        for (const block of blocks) {
          assert.ok(malloc_usable_size!(block) >= size);
          free!(block);
        }
        if (size > 5000) assert.ok(asked > 1);
      }
    }
  });
}

for (const grabbed of [300_000, 2_000_000, 5_000_000]) {
  test(`the first malloc asks for memory a few times although another thread takes ${grabbed} bytes each time`, () => {
    let asked = 0;
    const { exports } = start(() => {
      asked += 1;
      return grabbed;
    });
    assert.is.not(exports.malloc!(100), 0);
    // Each attempt takes two calls at most, and makes a page map that reaches twice as far.
    assert.ok(asked < 10, `${asked} calls`);
  });
}

for (const [build, module] of Object.entries(BUILDS)) {
  for (const grabbed of [PAGE, 65_536, 300_000]) {
    for (const alignment of [16, 65_536]) {
      test(`${build}: a block aligned to ${alignment} takes a few calls of sbrk although another thread takes ${grabbed} bytes each time`, () => {
        let asked = 0;
        let isBusy = false;
        const { exports } = start(() => {
          asked += 1;
          return isBusy ? grabbed : 0;
        }, module);
        // Some pages are free at the end of the heap, but not enough.
        exports.malloc!(100);
        isBusy = true;
        for (let i = 0; i < 20; ++i) {
          asked = 0;
          assert.is.not(exports.aligned_alloc!(alignment, 200_000), 0);
          assert.ok(asked < 8, `${asked} calls for block ${i}`);
        }
      });
    }
  }
}

test("the heap takes at most a tenth more memory than the blocks need", () => {
  const { exports, taken } = start(() => 0);
  const size = 1000;
  const count = 2000;
  for (let i = 0; i < count; ++i) assert.is.not(exports.malloc!(size), 0);
  assert.ok(taken() < 1.1 * count * size, `${taken()} bytes were taken for ${count * size} bytes of blocks`);
});

test("small blocks make the heap ask for 32 KiB at a time", () => {
  let asked = 0;
  const { exports, taken } = start(() => {
    asked += 1;
    return 0;
  });
  for (let i = 0; i < 2000; ++i) assert.is.not(exports.malloc!(1000), 0);
  // Less is left at the end of each wasm page, if that is where linear memory ends.
  assert.ok(asked < (2 * taken()) / 32_768, `${asked} calls for ${taken()} bytes`);
});

test("each request is made at most twice when another thread takes a few bytes every time", () => {
  const { exports, taken } = start(() => 8);
  const size = 1_000_000;
  const count = 20;
  for (let i = 0; i < count; ++i) assert.is.not(exports.malloc!(size), 0);
  assert.ok(
    taken() < (2 * count + 3) * size,
    `${taken()} bytes were taken for ${count * size} bytes of blocks`,
  );
});

/** Makes an instance of the library's `sbrk` on `memory`. */
async function startSbrk(
  memory: WebAssembly.Memory,
  emscripten_resize_heap: (wanted: number) => number,
  ...constants: readonly string[]
): Promise<RawExports> {
  const { module } = await compile(["src/sbrk.ts"], ["RSB_EMSCRIPTEN", ...constants]);
  const env = {
    memory,
    __heap_base: HEAP_BASE,
    __rsb_break: BREAK,
    __errno_location: () => 16,
    emscripten_resize_heap,
  };
  const { instance } = await WebAssembly.instantiate(Uint8Array.from(module), { env });
  return instance.exports as unknown as RawExports;
}

test("sbrk succeeds although another thread has just grown memory", async () => {
  const maximum = 64;
  const memory = new WebAssembly.Memory({ initial: 4, maximum });
  const pages = () => memory.buffer.byteLength / WASM_PAGE;
  // Like Emscripten's function, it returns false if memory is already that large.
  const resize = (wanted: number): number => {
    if (pages() < maximum) memory.grow(1);
    const missing = Math.ceil(wanted / WASM_PAGE) - pages();
    if (missing <= 0 || missing > maximum - pages()) return 0;
    memory.grow(missing);
    return 1;
  };
  const { sbrk } = await startSbrk(memory, resize, "RSB_LOCKED");
  let end = HEAP_BASE;
  for (; end + WASM_PAGE <= maximum * WASM_PAGE; end += WASM_PAGE) assert.is(sbrk!(WASM_PAGE), end);
  assert.is(sbrk!(WASM_PAGE), -1);
});

test("the break never moves down: sbrk refuses negative sizes, and brk refuses addresses below the break", async () => {
  const { sbrk, brk } = await startSbrk(new WebAssembly.Memory({ initial: 4 }), () => 0);
  for (const less of [-1, -7, -8, -1000]) assert.is(sbrk!(less), -1);
  assert.is(sbrk!(0), HEAP_BASE);
  // The break is rounded up. Setting it to the same address again leaves it there.
  for (let times = 0; times < 2; ++times) assert.is(brk!(HEAP_BASE + 1001), 0);
  assert.is(sbrk!(0), HEAP_BASE + 1008);
  assert.is(brk!(HEAP_BASE + 1000), -1);
});

for (const [name, module] of Object.entries(BUILDS)) {
  test(`${name}: an aligned page run is had although another thread takes memory whenever the break is asked for`, () => {
    const alignment = 4 * 2 ** 20;
    for (const grabbed of [16, 1537, 5000]) {
      let asked = 0;
      const { instances, take } = startProgram(module, {
        base: HEAP_BASE,
        initial: 4,
        maximum: 65_536,
        before() {
          ++asked;
          take(grabbed);
          return true;
        },
      });
      const run = instances[0]!.page_alloc!(PAGE, alignment) >>> 0;
      assert.is.not(run, 0, `it failed after ${asked} requests`);
      assert.is(run % alignment, 0);
      assert.ok(asked < 200, `${asked} requests`);
    }
  });
}

test.run();
