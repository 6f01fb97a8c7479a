/** The bitmap of free pages on its own: each search must find what a search page by page finds. */
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compile } from "../cabi/core.ts";
import { LAYOUT } from "./heap-check.ts";

/** The exports of src/free-pages.ts. Numbers are pages, except `to`, an address. */
interface FreePages {
  moveFree(to: number, old: number, capacity: number): void;
  addFree(page: number, pages: number): void;
  addFreeInline(page: number, pages: number): void;
  takeFree(page: number, pages: number): void;
  takeFreeInline(page: number, pages: number): void;
  findFree(pages: number): number;
  findAligned(pages: number, alignment: number): number;
}

/** The heap's pages. They begin and end within a word of 64 pages, after 8 words without free pages. */
const START = 8 * 64 + 37;
const END = START + 600;
const CAPACITY = 2048;

const STATE = 1024;
const BITMAP = 8192;

/** Pages from START on, that are freed or taken; `at` and `pages` are reduced to what is possible. */
type Step = { free: true; at: number; pages: number } | { free: false; pages: number; alignment: number };

const lengths = fc.oneof(
  { weight: 12, arbitrary: fc.integer({ min: 1, max: 8 }) },
  { weight: 2, arbitrary: fc.integer({ min: 9, max: 62 }) },
  { weight: 1, arbitrary: fc.integer({ min: 63, max: 66 }) },
  { weight: 1, arbitrary: fc.integer({ min: 67, max: 300 }) },
);
const alignments = fc.oneof({ weight: 4, arbitrary: fc.constant(1) }, fc.constantFrom(2, 4, 32, 64, 128));
const frees = fc.record({
  free: fc.constant<true>(true),
  at: fc.integer({ min: START, max: END - 1 }),
  pages: lengths,
});
const takes = fc.record({ free: fc.constant<false>(false), pages: lengths, alignment: alignments });
const steps = fc.array(fc.oneof(frees, takes), { minLength: 1, maxLength: 400, size: "max" });

/** Returns the lowest multiple of `alignment` from which on `pages` pages are free; 0 if there is none. */
function firstFit(isFree: readonly boolean[], pages: number, alignment: number): number {
  for (let page = Math.ceil(START / alignment) * alignment; page + pages <= END; page += alignment)
    if (isFree.slice(page, page + pages).every(Boolean)) return page;
  return 0;
}

/** Makes a bitmap without free pages. */
function start(core: WebAssembly.Module): { pages: FreePages; state: DataView; memory: WebAssembly.Memory } {
  const memory = new WebAssembly.Memory({ initial: 1 });
  const env = { memory, __rsb_state: STATE };
  const pages = new WebAssembly.Instance(core, { env }).exports as unknown as FreePages;
  const state = new DataView(memory.buffer, STATE);
  state.setUint32(LAYOUT.STATE_START, START, true);
  state.setUint32(LAYOUT.STATE_END, END, true);
  state.setUint32(LAYOUT.STATE_CAPACITY, CAPACITY, true);
  state.setUint32(LAYOUT.STATE_FRESH, START, true);
  pages.moveFree(BITMAP, 0, CAPACITY);
  return { pages, state, memory };
}

/** Frees and takes pages, half of them by the functions that are inlined elsewhere. */
function run(core: WebAssembly.Module, sequence: readonly Step[]): void {
  const { pages } = start(core);
  const isFree: boolean[] = Array.from({ length: END }, () => false);
  const add = (first: number, count: number, isInline: boolean): void => {
    if (isInline) pages.addFreeInline(first, count);
    else pages.addFree(first, count);
    isFree.fill(true, first, first + count);
  };
  add(START, END - START, false);
  for (const [at, step] of sequence.entries()) {
    const isInline = at % 2 === 0;
    if (step.free) {
      const taken = isFree.indexOf(false, step.at);
      if (taken < 0) continue;
      const free = isFree.indexOf(true, taken);
      add(taken, Math.min(step.pages, (free < 0 ? END : free) - taken), isInline);
      continue;
    }
    const found =
      step.alignment === 1 ? pages.findFree(step.pages) : pages.findAligned(step.pages, step.alignment);
    assert.is(found, firstFit(isFree, step.pages, step.alignment), `step ${at}: ${JSON.stringify(step)}`);
    if (found === 0) continue;
    if (isInline) pages.takeFreeInline(found, step.pages);
    else pages.takeFree(found, step.pages);
    isFree.fill(false, found, found + step.pages);
  }
}

async function compileCore(constants: readonly string[]): Promise<WebAssembly.Module> {
  const { module } = await compile(["src/free-pages.ts"], constants);
  return WebAssembly.compile(Uint8Array.from(module));
}

for (const [name, constants] of [
  ["with grades", []],
  ["in a compact build", ["RSB_COMPACT"]],
] as const) {
  test(`a search finds the lowest free pages that will do, ${name}`, async () => {
    const core = await compileCore(constants);
    fc.assert(
      fc.property(steps, (sequence) => run(core, sequence)),
      { numRuns: 1000, includeErrorInReport: true },
    );
  });
}

test("a search does not count a long series again from each word that it fills", async () => {
  const END_OF_LONG = START + 1400;
  const { pages, state, memory } = start(await compileCore([]));
  for (let page = END_OF_LONG - 20; page >= START; page -= 20) pages.addFree(page, 20);
  const grades = new Uint8Array(memory.buffer, state.getUint32(LAYOUT.STATE_GRADES, true), CAPACITY / 64);
  const rated = (): number => grades.filter((grade) => grade > 0).length;
  // The first eight words, which are compared at once, and the one where the series ends.
  const most = 8 + 1;
  assert.ok(rated() > most);
  assert.is(pages.findFree(END_OF_LONG - START + 1), 0);
  assert.ok(rated() <= most, `${rated()} words`);
  assert.is(pages.findFree(END_OF_LONG - START), START);
});

test.run();
