/**
 * The core as built for Emscripten: random sequences of calls, as in heap-model.test.ts, while others take memory from
 * `sbrk` too, `sbrk` fails now and then, or the break is near 2 GiB or 4 GiB.
 */
import fc from "fast-check";
import { test } from "uvu";
import { WASM_PAGE } from "../npm/webassembly.ts";
import { checkHeap } from "./heap-check.ts";
import {
  ALL_PAGES,
  PAGE,
  addForeign,
  apiOf,
  assert,
  assertKept,
  calls,
  emptyModel,
  make,
  release,
  type Call,
} from "./support-heap.ts";
import { BREAK_ALIGNMENT, STATE, compileForEmscripten, startProgram, type Setting } from "./support-sbrk.ts";
import { unknownPages } from "./support-threads.ts";

const GIB = 2 ** 30;
const ADDRESSES = 2 ** 32;
/** Where `mallinfo` stores its result: in front of the allocator's state. */
const INFO = 1024;
const THREADS = 3;

const VARIANTS: readonly (readonly string[])[] = [
  [],
  ["RSB_COMPACT"],
  ["RSB_LOCKED"],
  ["RSB_MT"],
  ["RSB_HARDENED"],
  ["RSB_MT", "RSB_HARDENED"],
];

/** A call and the thread that makes it. Where others take memory instead, `taken` says how many bytes. */
interface Turn {
  readonly by: number;
  readonly step: Call;
  readonly taken: number;
}

/** What happens in a call of `sbrk` before it serves the heap: another thread takes memory, and then memory is out. */
interface Moment {
  readonly taken: number;
  readonly fails: boolean;
}

/** What a sequence runs on. */
interface World extends Pick<Setting, "base" | "initial" | "maximum"> {
  readonly moments: readonly Moment[];
  readonly secret: number;
}

/** A break that others leave is seldom at the end of a page. */
const taken = fc.oneof(
  fc.constantFrom(1, BREAK_ALIGNMENT, PAGE, 3 * PAGE + BREAK_ALIGNMENT),
  fc.integer({ min: 1, max: 3 * PAGE }),
  fc.integer({ min: 1, max: 5 * WASM_PAGE }),
);

const turns = fc.array(fc.record({ by: fc.nat(THREADS - 1), step: calls(), taken }), {
  maxLength: 80,
  size: "max",
});

/** Worlds whose break is at first in `bases`, and which have `initial` and `more` wasm pages of memory from there on. */
function worlds(
  bases: fc.Arbitrary<number>,
  initial: number,
  more: fc.Arbitrary<number>,
  moments: fc.Arbitrary<Moment>,
): fc.Arbitrary<World> {
  return fc
    .record({
      address: bases,
      beyond: fc.nat(initial),
      more,
      moments: fc.array(moments, { minLength: 1, maxLength: 12 }),
      secret: fc.nat(255),
    })
    .map(({ address, beyond, more, ...world }) => {
      const base = address - (address % BREAK_ALIGNMENT);
      const pages = Math.min(Math.ceil(base / WASM_PAGE) + beyond, ALL_PAGES);
      return { base, initial: pages, maximum: Math.min(pages + more, ALL_PAGES), ...world };
    });
}

for (const constants of VARIANTS) {
  const variant = constants.join(" ") || "no threads";
  const isHardened = constants.includes("RSB_HARDENED");
  const hasThreads = constants.includes("RSB_LOCKED") || constants.includes("RSB_MT");
  const module = await compileForEmscripten(...constants);

  /** Runs a sequence on a new heap, checks the heap after every `interval` calls, and frees all blocks in the end. */
  const run = (sequence: readonly Turn[], world: World, interval: number, mayFail: boolean): void => {
    // Addresses in the last wasm page stand for blocks of no bytes in the hardened build.
    const model = emptyModel(ADDRESSES - (isHardened ? WASM_PAGE : PAGE));
    let asked = 0;
    // Whether others took memory during the present call of the heap, which may then lose what it gets.
    let isDisturbed = false;
    let lost = 0;
    const { memory, instances, take } = startProgram(module, {
      ...world,
      threads: hasThreads ? THREADS : 1,
      before(bytes) {
        const moment = world.moments[asked++ % world.moments.length]!;
        if (hasThreads && moment.taken) {
          takeByOthers(moment.taken);
          isDisturbed = true;
        }
        if (isDisturbed) lost += Math.ceil(bytes / PAGE);
        return bytes === 0 || !moment.fails;
      },
    });
    /** Others take memory: what is left, if that is less. */
    const takeByOthers = (bytes: number): void => {
      const from = take(0);
      take(Math.min(bytes, Math.max(world.maximum * WASM_PAGE - BREAK_ALIGNMENT - from, 0)));
      if (take(0) > from) addForeign(memory, model, from, take(0));
    };
    const apis = instances.map((exports) => apiOf(memory, exports, (name) => name));
    const api = apis[0]!;

    const check = (): void => {
      assertKept(api, model);
      for (const { thread_end } of instances) thread_end?.();
      instances[0]!.malloc_check!();
      // `malloc_check` has checked a hardened heap, which is laid out differently.
      if (isHardened) return;
      checkHeap(memory.buffer, STATE, {
        live: model.blocks.map(({ address }) => address),
        foreign: [[0, world.base], ...model.foreign],
        unknown: hasThreads ? lost + unknownPages(memory.buffer, STATE) : 0,
      });
    };

    // The end of the program's data.
    addForeign(memory, model, world.base - PAGE, world.base);
    for (const [at, { by, step, taken }] of sequence.entries()) {
      isDisturbed = false;
      if (step.call === "grow") takeByOthers(taken);
      else make(apis[by % apis.length]!, model, step, mayFail);
      if (at % interval === interval - 1) check();
    }
    check();
    for (let by = 0; model.blocks.length > 0; by = (by + 1) % apis.length)
      release(apis[by]!, model, model.blocks.length - 1);
    check();
    instances[0]!.mallinfo!(INFO);
    const [all, inUse, free] = new Uint32Array(memory.buffer, INFO);
    assert(inUse === 0, `${inUse} bytes are in use after all blocks were freed`);
    assert(free === all, `only ${free} of ${all} bytes are free after all blocks were freed`);
  };

  const low = fc.integer({ min: WASM_PAGE, max: 3 * WASM_PAGE });
  const below = (address: number, pages: number) =>
    fc.integer({ min: address - pages * WASM_PAGE, max: address - 1 });
  const some = fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: taken });
  const served = fc.record({ taken: some, fails: fc.constant(false) });
  const refused = fc.record({ taken: some, fails: fc.boolean() });
  const plenty = fc.constant(ALL_PAGES);

  // A check reads the whole page map, which reaches from address 0. There are few of them where that is long.
  const often = { numRuns: 50, interval: 16 };
  const seldom = { numRuns: 8, interval: 80 };

  for (const { title, numRuns, interval, mayFail, within } of [
    {
      ...often,
      title: "while others take memory too",
      mayFail: false,
      within: worlds(low, 3, plenty, served),
    },
    {
      ...often,
      title: "in a small memory, where calls may fail with ENOMEM",
      mayFail: true,
      within: worlds(low, 3, fc.nat(24), served),
    },
    {
      ...often,
      title: "although `sbrk` fails now and then, where calls may fail with ENOMEM",
      mayFail: true,
      within: worlds(low, 3, plenty, refused),
    },
    {
      ...seldom,
      title: "across 2 GiB",
      mayFail: false,
      within: worlds(below(2 * GIB, 150), 3, plenty, served),
    },
    {
      ...seldom,
      title: "just below 4 GiB, where calls may fail with ENOMEM",
      mayFail: true,
      within: worlds(below(ADDRESSES, 300), 300, plenty, refused),
    },
  ]) {
    test(`${variant}: any sequence of calls agrees with the model ${title}`, () => {
      const property = fc.property(turns, within, (sequence, world) =>
        run(sequence, world, interval, mayFail),
      );
      fc.assert(property, { numRuns, includeErrorInReport: true });
    });
  }
}

test.run();
