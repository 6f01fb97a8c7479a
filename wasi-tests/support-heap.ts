/**
 * A model of a heap, and random sequences of calls that are made on a heap and followed on the model: after each call,
 * its result and the blocks' contents are checked against the model.
 */
import fc from "fast-check";
import { prefixed } from "../cabi/names.ts";
import { EINVAL, ENOMEM, instantiate, type Heap, type Options, type RawExports } from "../npm/index.ts";
import { WASM_PAGE } from "../npm/webassembly.ts";
import { LAYOUT, checkHeap } from "./heap-check.ts";

export const PAGE = 2 ** LAYOUT.PAGE_BITS;
/** The number of wasm pages in 4 GiB. */
export const ALL_PAGES = 65_536;
export const PTRDIFF_MAX = 2 ** 31 - 1;

/** The functions that a sequence calls: those of a heap of the stand-alone module, or of a linked program. */
export type Api = Omit<Heap, "exports" | "state" | "mallinfo">;

const NAMES = [
  "malloc",
  "free",
  "calloc",
  "realloc",
  "reallocarray",
  "aligned_alloc",
  "memalign",
  "posix_memalign",
  "valloc",
  "pvalloc",
  "malloc_usable_size",
  "free_sized",
  "free_aligned_sized",
  "page_alloc",
  "page_realloc",
  "page_free",
] as const satisfies readonly (keyof Api)[];

/** The functions' names as linked programs export them. */
export const PREFIXED_NAMES = NAMES.map(prefixed);

/** The functions of a linked program with these exports, or of the core as compiled, whose names have no prefix. */
export function apiOf(memory: WebAssembly.Memory, exports: RawExports, nameOf = prefixed): Api {
  const errno = () => new Uint32Array(memory.buffer, exports.__errno_location!(), 1);
  const functions = NAMES.map((name) => [name, (...args: number[]) => exports[nameOf(name)]!(...args) >>> 0]);
  const api = { memory, ...Object.fromEntries(functions) };
  Object.defineProperty(api, "errno", {
    get: () => errno()[0],
    set: (value: number) => {
      errno()[0] = value;
    },
  });
  return api as Api;
}

/** A block in use. All its usable bytes have the value `tag`. */
export interface Block {
  readonly address: number;
  readonly usable: number;
  readonly tag: number;
  /** The alignment asked for, if any. */
  readonly alignment?: number;
  readonly fromPages: boolean;
}

export interface Model {
  readonly blocks: Block[];
  /** Ranges [from, to) that others took. They are filled with FOREIGN. */
  readonly foreign: [number, number][];
  /** Where blocks end at the latest. */
  readonly end: number;
  /** What a caller sees: the calls in order, and which of them failed with which errno. */
  readonly seen: string[];
  tag: number;
}

const FOREIGN = 0xf0;

/** By default blocks may lie anywhere except in the last page below 4 GiB. */
export function emptyModel(end = 2 ** 32 - PAGE): Model {
  return { blocks: [], foreign: [], end, seen: [], tag: 0 };
}

/** Reads a word of a heap's state. */
export function stateWord({ memory, state }: Heap, offset: number): number {
  return new Uint32Array(memory.buffer)[(state + offset) / 4]!;
}

/** Reads a heap's page map: the metadata pages, the series of free pages, and the address of each page's Run. */
export function pagesOf(heap: Heap) {
  const words = new Uint32Array(heap.memory.buffer);
  const [start, end] = [stateWord(heap, LAYOUT.STATE_START), stateWord(heap, LAYOUT.STATE_END)];
  const map = stateWord(heap, LAYOUT.STATE_MAP) / 4;
  const runAt = (page: number): number => words[map + page]!;
  const isMetadata = (page: number): boolean => runAt(page) === heap.state + LAYOUT.METADATA;
  const all = Array.from({ length: end - start }, (_, index) => start + index);
  const bits = new Uint8Array(heap.memory.buffer, stateWord(heap, LAYOUT.STATE_FREE));
  const isFree = (page: number): boolean => ((bits[page >>> 3]! >>> (page & 7)) & 1) === 1;
  const free: { readonly address: number; readonly bytes: number }[] = [];
  for (let page = start; page < end; page += 1) {
    const first = page;
    while (isFree(page)) page += 1;
    if (page > first) free.push({ address: first * PAGE, bytes: (page - first) * PAGE });
  }
  return { runAt, isMetadata, metadataPages: all.filter(isMetadata), free };
}

/**
 * Checks the whole heap: exactly the blocks at the addresses `live` must be in use. The heap's memory starts at `base`, and
 * others took the ranges `foreign` of it.
 */
export function checkLive(
  heap: Heap,
  base: number,
  live: readonly number[],
  foreign: readonly (readonly [number, number])[] = [],
): void {
  checkHeap(heap.memory.buffer, heap.state, { live, foreign: [[0, base], ...foreign] });
}

/** Checks the whole heap: exactly the model's blocks must be in use. */
export function checkAgainst(heap: Heap, model: Model, base: number): void {
  const live = model.blocks.map(({ address }) => address);
  checkLive(heap, base, live, model.foreign);
}

/** Makes a heap of the stand-alone module. Its memory starts at `base`. */
export async function newHeap(options: Options = {}): Promise<{ heap: Heap; base: number }> {
  const heap = await instantiate(options);
  return { heap, base: heap.state + LAYOUT.STATE_SIZE };
}

// Blocks.

/** The alignment that malloc must give a block of `size` bytes: what C17 6.2.8 requires for objects of that size. */
export function naturalAlignment(size: number): number {
  return size <= 4 ? 4 : size < 16 ? 8 : 16;
}

/** Checks that a new block is aligned, large enough, inside memory and apart from others; adds it to the model; fills it. */
function adopt(
  api: Api,
  model: Model,
  address: number,
  size: number,
  alignment: number,
  fromPages = false,
): void {
  assert(
    address % Math.max(alignment, naturalAlignment(size)) === 0,
    `the block at ${address}, of ${size} bytes, is not aligned to ${alignment}`,
  );
  const usable = api.malloc_usable_size(address);
  assert(usable >= size, `a block for ${size} bytes has ${usable} usable bytes`);
  const end = address + usable;
  // A block of zero bytes may lie anywhere, as in hardened builds.
  assert(
    usable === 0 || end <= Math.min(api.memory.buffer.byteLength, model.end),
    `the block at ${address}, of ${usable} bytes, ends beyond the end of memory or where no block may`,
  );
  for (const other of model.blocks) {
    assert(
      end <= other.address || other.address + other.usable <= address,
      `the block at ${address} overlaps the one at ${other.address}`,
    );
  }
  for (const [from, to] of model.foreign)
    assert(
      usable === 0 || end <= from || to <= address,
      `the block at ${address} lies in memory that others took`,
    );
  model.tag = (model.tag + 1) & 0x7f;
  if (usable > 0) new Uint8Array(api.memory.buffer, address, usable).fill(model.tag);
  model.blocks.push({ address, usable, tag: model.tag, alignment, fromPages });
}

/** Checks that the first `bytes` of a block have the value `tag`: every byte up to 2 KiB, samples of larger blocks. */
export function assertFilled(memory: WebAssembly.Memory, address: number, bytes: number, tag: number): void {
  if (bytes === 0) return;
  const view = new Uint8Array(memory.buffer, address, bytes);
  const step = bytes <= 2048 ? 1 : 61;
  for (let at = 0; at < bytes; at += step) {
    assert(view[at] === tag, `byte ${at} of the block at ${address} is ${view[at]}, not ${tag}`);
  }
  assert(view[bytes - 1] === tag, `the last of the ${bytes} bytes at ${address} is not ${tag}`);
}

/** Checks that all blocks of the model, and the memory of others, still have their contents. */
export function assertKept(api: Api, model: Model): void {
  for (const { address, usable, tag } of model.blocks) assertFilled(api.memory, address, usable, tag);
  for (const [from, to] of model.foreign) assertFilled(api.memory, from, to - from, FOREIGN);
}

function remove(model: Model, index: number): Block {
  const block = model.blocks[index]!;
  model.blocks[index] = model.blocks[model.blocks.length - 1]!;
  model.blocks.pop();
  return block;
}

// Calls. `which` selects one of the blocks in use, modulo their number.

export type Call =
  | { readonly call: "malloc" | "valloc" | "pvalloc"; readonly size: number }
  | { readonly call: "calloc"; readonly count: number; readonly size: number }
  | {
      readonly call: "aligned_alloc" | "memalign" | "posix_memalign" | "page_alloc";
      readonly bits: number;
      readonly size: number;
    }
  | { readonly call: "realloc" | "page_realloc"; readonly which: number; readonly size: number }
  | { readonly call: "reallocarray"; readonly which: number; readonly count: number; readonly size: number }
  | { readonly call: "free" | "free_sized" | "free_aligned_sized"; readonly which: number }
  /** `burst` allocates many blocks of one size; `thin` frees every n-th block. */
  | { readonly call: "burst"; readonly count: number; readonly size: number }
  | { readonly call: "thin"; readonly every: number }
  /** Memory grows behind the heap's back, by so many wasm pages. */
  | { readonly call: "grow"; readonly pages: number }
  /** A call that must fail. `kind` selects which call, and varies its arguments. */
  | { readonly call: "wrong"; readonly kind: number; readonly which: number };

/** Sizes for bins and for large blocks; small ones are more frequent. */
const sizes = fc.oneof(
  { weight: 4, arbitrary: fc.nat(64) },
  { weight: 4, arbitrary: fc.nat(1200) },
  { weight: 2, arbitrary: fc.nat(20_000) },
  { weight: 1, arbitrary: fc.nat(200_000) },
);
const which = fc.nat(1000);
/** log2 of an alignment. The highest make memory grow by far more than their block, and the page map move. */
const bits = fc.oneof(
  { weight: 9, arbitrary: fc.nat(17) },
  { weight: 1, arbitrary: fc.integer({ min: 18, max: 24 }) },
);

/** One call. Without `all`, only calls that libc has too: no page functions, valloc, `grow` or `wrong`. */
export function calls(all = true): fc.Arbitrary<Call> {
  const record = <T extends Call["call"]>(call: T, rest: object) =>
    fc.record({ call: fc.constant(call), ...rest }) as unknown as fc.Arbitrary<Call>;
  return fc.oneof(
    { weight: 6, arbitrary: record("malloc", { size: sizes }) },
    {
      weight: 3,
      arbitrary: record("calloc", { count: fc.nat(20), size: fc.oneof(fc.nat(40), fc.nat(4000)) }),
    },
    { weight: 2, arbitrary: record("aligned_alloc", { bits, size: sizes }) },
    { weight: 1, arbitrary: record("memalign", { bits, size: sizes }) },
    { weight: 2, arbitrary: record("posix_memalign", { bits, size: sizes }) },
    { weight: 5, arbitrary: record("realloc", { which, size: sizes }) },
    { weight: 1, arbitrary: record("reallocarray", { which, count: fc.nat(20), size: fc.nat(1000) }) },
    { weight: 5, arbitrary: record("free", { which }) },
    { weight: 1, arbitrary: record("free_sized", { which }) },
    { weight: 1, arbitrary: record("free_aligned_sized", { which }) },
    {
      weight: 2,
      arbitrary: record("burst", { count: fc.nat(120), size: fc.oneof(fc.nat(600), fc.nat(9000)) }),
    },
    { weight: 2, arbitrary: record("thin", { every: fc.integer({ min: 1, max: 4 }) }) },
    ...(all
      ? [
          { weight: 1, arbitrary: record("valloc", { size: sizes }) },
          { weight: 1, arbitrary: record("pvalloc", { size: sizes }) },
          { weight: 2, arbitrary: record("page_alloc", { bits, size: sizes }) },
          { weight: 2, arbitrary: record("page_realloc", { which, size: sizes }) },
          { weight: 1, arbitrary: record("grow", { pages: fc.integer({ min: 1, max: 2 }) }) },
          { weight: 1, arbitrary: record("wrong", { kind: fc.nat(100), which }) },
        ]
      : []),
  );
}

/** Address of a word outside every heap, where posix_memalign stores its result. */
const RESULT = 8;

/** A heap and its model. If calls may fail, then only with ENOMEM. */
interface Trial {
  readonly api: Api;
  readonly model: Model;
  readonly mayFail: boolean;
}

/** Makes a call, checks its result, and updates the model. With `mayFail`, calls may fail with ENOMEM. */
export function make(api: Api, model: Model, step: Call, mayFail = false): void {
  const trial = { api, model, mayFail };
  const index = "which" in step && model.blocks.length > 0 ? step.which % model.blocks.length : undefined;
  api.errno = 0;

  switch (step.call) {
    case "malloc":
      return got(trial, "malloc", api.malloc(step.size), step.size);
    case "valloc":
      return got(trial, "valloc", api.valloc(step.size), step.size, WASM_PAGE);
    case "pvalloc": {
      const size = Math.ceil(step.size / WASM_PAGE) * WASM_PAGE;
      return got(trial, "pvalloc", api.pvalloc(step.size), size, WASM_PAGE);
    }
    case "calloc": {
      const address = api.calloc(step.count, step.size);
      if (address !== 0) assertFilled(api.memory, address, step.count * step.size, 0);
      return got(trial, "calloc", address, step.count * step.size);
    }
    case "aligned_alloc":
    case "memalign":
      return got(trial, step.call, api[step.call](2 ** step.bits, step.size), step.size, 2 ** step.bits);
    case "page_alloc": {
      const address = api.page_alloc(step.size, 2 ** step.bits);
      return got(trial, "page_alloc", address, step.size, Math.max(PAGE, 2 ** step.bits), true);
    }
    case "posix_memalign":
      return makePosixMemalign(trial, Math.max(4, 2 ** step.bits), step.size);
    case "realloc":
    case "page_realloc":
    case "reallocarray":
      return makeRealloc(trial, step, index);
    case "free":
    case "free_sized":
    case "free_aligned_sized":
      if (index === undefined) api.free(0);
      else release(api, model, index, step.call);
      return;
    case "burst":
      for (let i = 0; i < step.count; ++i) {
        api.errno = 0;
        got(trial, "malloc", api.malloc(step.size), step.size);
      }
      return;
    case "thin":
      for (let at = model.blocks.length - 1; at >= 0; at -= step.every) release(api, model, at);
      return;
    case "grow":
      return growBehind(api, model, step.pages);
    case "wrong":
      return makeWrong(api, step.kind, index === undefined ? 0 : model.blocks[index]!.address);
  }
}

/** Allocates page runs until no page is left, so that blocks lie wherever the heap may place them. */
export function fillUp(api: Api, model: Model): void {
  for (const pages of [512, 64, 8, 1]) {
    for (let count = -1; count < model.blocks.length;) {
      count = model.blocks.length;
      // One byte less, for the guard of a hardened build.
      make(api, model, { call: "page_alloc", bits: 0, size: pages * PAGE - 1 }, true);
    }
  }
}

/** Checks the result of a call that allocates, before which errno was 0, and updates the model. */
function got(
  { api, model, mayFail }: Trial,
  name: string,
  address: number,
  size: number,
  alignment = 1,
  fromPages = false,
): void {
  model.seen.push(address === 0 ? `${name} fails with ${api.errno}` : name);
  if (address === 0) {
    assert(mayFail && api.errno === ENOMEM, `${name} of ${size} bytes failed with errno ${api.errno}`);
    return;
  }
  assert(api.errno === 0, `${name} of ${size} bytes succeeded, but set errno to ${api.errno}`);
  adopt(api, model, address, size, alignment, fromPages);
}

function makePosixMemalign(trial: Trial, alignment: number, size: number): void {
  const { api, mayFail } = trial;
  const words = () => new Uint32Array(api.memory.buffer);
  words()[RESULT / 4] = 77;
  const error = api.posix_memalign(RESULT, alignment, size);
  assert(api.errno === 0, `posix_memalign set errno to ${api.errno}`);
  const result = words()[RESULT / 4]!;
  if (error === 0) return got(trial, "posix_memalign", result, size, alignment);
  assert(
    mayFail && error === ENOMEM && result === 77,
    `posix_memalign returned ${error}, and its result was ${result}, not the 77 stored before the call`,
  );
}

type Realloc = Extract<Call, { readonly call: "realloc" | "page_realloc" | "reallocarray" }>;

/** Resizes the block with this index. If there is none, or the call is not for such blocks, it allocates a new one. */
function makeRealloc(trial: Trial, step: Realloc, index: number | undefined): void {
  const { api, model, mayFail } = trial;
  const size = step.call === "reallocarray" ? step.count * step.size : step.size;
  const call = (block: number) =>
    step.call === "reallocarray"
      ? api.reallocarray(block, step.count, step.size)
      : api[step.call](block, size);
  const fromPages = step.call === "page_realloc";
  const alignment = fromPages ? PAGE : 1;
  if (index === undefined || model.blocks[index]!.fromPages !== fromPages)
    return got(trial, step.call, call(0), size, alignment, fromPages);
  const block = model.blocks[index]!;
  const address = call(block.address);
  if (address === 0) {
    assert(mayFail && api.errno === ENOMEM, `${step.call} to ${size} bytes failed with errno ${api.errno}`);
    assertFilled(api.memory, block.address, block.usable, block.tag);
    model.seen.push(`${step.call} fails`);
    return;
  }
  remove(model, index);
  assertFilled(api.memory, address, Math.min(size, block.usable), block.tag);
  got(trial, step.call, address, size, alignment, fromPages);
}

/** Makes memory grow behind the heap's back, if it can. */
function growBehind({ memory }: Api, model: Model, pages: number): void {
  const end = memory.buffer.byteLength;
  try {
    memory.grow(pages);
  } catch {
    return;
  }
  addForeign(memory, model, end, memory.buffer.byteLength);
}

/** Allocates single pages until memory is out. Returns the lowest `count` of them that are adjacent. */
export function adjacentOfAll(allocatePage: () => number, count: number): number[] {
  const pages: number[] = [];
  for (let page: number; (page = allocatePage()) !== 0;) pages.push(page);
  pages.sort((a, b) => a - b);
  const at = pages.findIndex((page, index) => pages[index + count - 1] === page + (count - 1) * PAGE);
  assert(at >= 0, `memory has no ${count} adjacent pages`);
  return pages.slice(at, at + count);
}

/** Fills memory that others took, from `from` to `to`, and adds it to the model. */
export function addForeign(memory: WebAssembly.Memory, model: Model, from: number, to: number): void {
  new Uint8Array(memory.buffer).fill(FOREIGN, from, to);
  model.foreign.push([from, to]);
}

/** Checks that a block's contents are unchanged and frees it, which must not change errno. */
export function release(
  api: Api,
  model: Model,
  index: number,
  how: "free" | "free_sized" | "free_aligned_sized" = "free",
) {
  const { address, usable, tag, alignment, fromPages } = remove(model, index);
  assertFilled(api.memory, address, usable, tag);
  const before = api.errno;
  if (fromPages) api.page_free(address);
  else if (how === "free") api.free(address);
  else if (how === "free_sized") api.free_sized(address, usable);
  else api.free_aligned_sized(address, alignment ?? 1, usable);
  assert(api.errno === before, `free changed errno from ${before} to ${api.errno}`);
}

/** Makes a call that must fail whatever the heap holds: it must return NULL and set errno. */
function makeWrong(api: Api, kind: number, block: number): void {
  const nothing = 2 ** 31 + 8 * kind;
  const noPower = 2 * kind + 3 + Number(Number.isInteger(Math.log2(2 * kind + 3)));
  const wrong: readonly (readonly [number, () => number])[] = [
    [ENOMEM, () => api.malloc(nothing)],
    [ENOMEM, () => api.malloc(2 ** 32 - 1 - kind)],
    [ENOMEM, () => api.calloc(2 ** 16 + kind, 2 ** 16)],
    [ENOMEM, () => api.calloc(2, 2 ** 30)],
    [ENOMEM, () => api.realloc(block, nothing)],
    [ENOMEM, () => api.realloc(block, 2 ** 32 - 1 - kind)],
    [ENOMEM, () => api.reallocarray(block, 2 ** 20, 2 ** 12 + kind)],
    [ENOMEM, () => api.aligned_alloc(16, nothing)],
    [ENOMEM, () => api.page_alloc(nothing, PAGE)],
    [EINVAL, () => api.aligned_alloc(noPower, 8)],
    [EINVAL, () => api.aligned_alloc(0, 8)],
    [EINVAL, () => api.memalign(noPower, 8)],
    [EINVAL, () => api.page_alloc(8, noPower)],
  ];
  const [error, call] = wrong[kind % wrong.length]!;
  assert(call() === 0 && api.errno === error, `a call that cannot succeed did not fail with errno ${error}`);
  api.errno = 0;
  for (const alignment of [0, 1, 2, noPower]) {
    assert(
      api.posix_memalign(RESULT, alignment, 8) === EINVAL && api.errno === 0,
      `posix_memalign does not return EINVAL for the alignment ${alignment}, or changes errno`,
    );
  }
}

export function assert(holds: boolean, otherwise: string): asserts holds {
  if (!holds) throw new Error(otherwise);
}
