/**
 * Reads a heap from outside: finds the allocator's state in a memory by its magic number, then walks the page map, its
 * runs and their lists of free slots. It needs only the memory and trusts nothing in it: the report on a damaged heap says
 * what is damaged. Works in Node and in browsers.
 */
import { STATE_ALIGNMENT } from "../requirements.ts";
import { cacheSize, cachesOf, countCached } from "./cached.ts";
import { formatAddress } from "./format.ts";
import type { Layout } from "./layout.ts";

/** Adjacent pages with one purpose. Sizes are in bytes. */
export interface Region {
  readonly address: number;
  readonly pages: number;
  /** "other": not part of the heap. "map": the page map, metadata pages and thread caches. "slots": a run of a bin. */
  readonly serves: "other" | "map" | "free" | "large" | "slots";
  // For "slots" only.
  readonly slotSize?: number;
  readonly slots?: number;
  readonly usedSlots?: number;
}

/** Totals of a bin. Sizes are in bytes. */
export interface BinReport {
  readonly slotSize: number;
  readonly pages: number;
  readonly slots: number;
  readonly usedSlots: number;
  /** Unused space after the last slot of each run, where no slot fits. */
  readonly waste: number;
  /**
   * The most by which the used slots can exceed the requests: a smaller request would be in a smaller bin, unless it was
   * for an alignment or resized a block.
   */
  readonly rounding: number;
}

/** A heap at one moment. Sizes are in bytes, addresses unsigned. */
export interface HeapReport {
  /** Address of the allocator's state. */
  readonly state: number;
  readonly pageSize: number;
  /** The bounds of the heap: memory between them can belong to others. */
  readonly start: number;
  readonly end: number;
  /** Size of the pages that serve blocks or are free: the sum of the next two. */
  readonly heap: number;
  /** Size of the blocks in use, rounded up to slots and pages. */
  readonly inUse: number;
  readonly free: number;
  /** The most bytes that pages with blocks ever took. */
  readonly peak: number;
  /** Size of the page map, the metadata pages and the thread caches. */
  readonly mapSize: number;
  /** The bins that have pages, smallest slots first. */
  readonly bins: readonly BinReport[];
  readonly large: { readonly blocks: number; readonly bytes: number };
  readonly freeRuns: { readonly runs: number; readonly bytes: number; readonly longest: number };
  /** Everything from `start` to `end`, by address. */
  readonly regions: readonly Region[];
  /** Signs of damage, one line each. */
  readonly damage: readonly string[];
  /** The bug for which a hardened heap trapped. The size of the block is 0 if it is unknown. */
  readonly fault?: { readonly message: string; readonly block: number; readonly size: number };
}

/** The most lines of damage in a report. */
const MOST_DAMAGE = 20;

/**
 * Returns the heaps in a memory, by address of their state: one, or several if libraries have their own, or none before the
 * first allocation. `layouts` are the possible layouts. Throws a one-line Error if the only states found are damaged.
 */
export function readHeaps(memory: ArrayBufferLike, layouts: readonly Layout[]): HeapReport[] {
  const heaps: HeapReport[] = [];
  let doubt: string | undefined;
  // The regions of the heaps found so far, end by start. A state lies before its own heap and in no region of any heap.
  const taken = new Map<number, number>();
  const words = new Uint32Array(memory, 0, memory.byteLength >>> 2);
  const end = memory.byteLength;
  for (let state = STATE_ALIGNMENT; state < end; state = taken.get(state) ?? state + STATE_ALIGNMENT) {
    for (const layout of layouts) {
      if (words[(state + layout.STATE_MAGIC) >>> 2] !== layout.MAGIC || taken.has(state)) continue;
      if (!hasBins(words, state, layout)) continue;
      const wrong = whatIsWrong(memory, state, layout);
      if (wrong === undefined) {
        const heap = readHeap(memory, state, layout);
        heaps.push(heap);
        for (const { address, pages, serves } of heap.regions)
          if (serves !== "other") taken.set(address, address + pages * heap.pageSize);
      } else {
        doubt ??= `the heap whose state is at ${formatAddress(state)} is damaged: ${wrong}`;
      }
    }
  }
  if (heaps.length === 0 && doubt !== undefined) throw new Error(doubt);
  return heaps;
}

/** Access to a heap's memory. */
interface Raw {
  readonly layout: Layout;
  readonly pageSize: number;
  /** Read a field of the state and a word of memory, unsigned; outside memory words are 0. */
  readonly field: (offset: number) => number;
  readonly word: (address: number) => number;
  /** Returns the address of the Run that a page points to. */
  readonly runAt: (page: number) => number;
  /** The Runs that stand for no run: for pages in no run, and for metadata pages. */
  readonly noRun: number;
  readonly metadata: number;
  /** The first page, and the page after the last one. */
  readonly start: number;
  readonly end: number;
  readonly isFree: (page: number) => boolean;
  /** Addresses of the start and end of the page map. */
  readonly map: number;
  readonly mapEnd: number;
  /** Adds a line of damage. */
  readonly complain: (line: string) => void;
}

/** A page run in the map, as its Run describes it. */
interface Run {
  /** Address of the Run. */
  readonly at: number;
  readonly page: number;
  readonly pages: number;
  readonly kind: number;
  readonly start: number;
  readonly size: number;
  readonly slots: number;
  readonly free: number;
  readonly left: number;
  /** Number of free slots. */
  freeSlots: number;
}

function open(memory: ArrayBufferLike, state: number, layout: Layout, damage: string[]): Raw {
  const words = new Uint32Array(memory, 0, memory.byteLength >>> 2);
  const word = (address: number): number => words[address >>> 2] ?? 0;
  const field = (offset: number): number => word(state + offset);
  const map = field(layout.STATE_MAP);
  const free = field(layout.STATE_FREE);
  const grades = field(layout.STATE_GRADES);
  const wordCount = field(layout.STATE_CAPACITY) / layout.WORD_PAGES;
  return {
    layout,
    pageSize: 2 ** layout.PAGE_BITS,
    field,
    word,
    runAt: (page) => word(map + 4 * page),
    noRun: state + layout.NO_RUN,
    metadata: state + layout.METADATA,
    start: field(layout.STATE_START),
    end: field(layout.STATE_END),
    map,
    // A compact build has no grades: its map ends with the bitmap.
    mapEnd: grades === 0 ? free + field(layout.STATE_CAPACITY) / 8 : grades + wordCount + layout.END_GRADES,
    isFree: (page) => ((word(free + 4 * (page >>> 5)) >>> (page & 31)) & 1) === 1,
    complain: (line) => {
      if (damage.length < MOST_DAMAGE) damage.push(line);
    },
  };
}

/**
 * Returns whether any bin has its slot size, which the allocator sets before the magic number: otherwise the word is just
 * equal to that.
 */
function hasBins(words: Uint32Array, state: number, layout: Layout): boolean {
  const { SLOT_SIZES, FIRST_BIN, BIN_TABLE, BIN_STEP, BIN_SIZE } = layout;
  return SLOT_SIZES.some(
    (size, bin) => words[(state + BIN_TABLE + BIN_STEP * (FIRST_BIN + bin) + BIN_SIZE) >>> 2] === size,
  );
}

/** Returns what is wrong with the fields of a state, if anything. */
function whatIsWrong(memory: ArrayBufferLike, state: number, layout: Layout): string | undefined {
  const size = memory.byteLength;
  if (state + layout.STATE_SIZE > size) return "it extends past the end of memory";
  const { start, end, map, mapEnd, field } = open(memory, state, layout, []);
  const capacity = field(layout.STATE_CAPACITY);
  if (start > end) return `its first page, ${start}, is after its end, page ${end}`;
  if (end > size >>> layout.PAGE_BITS) return `its end, page ${end}, is outside memory`;
  if (capacity < end || capacity % layout.WORD_PAGES !== 0)
    return `its map covers ${capacity} pages instead of at least ${end}`;
  if (map % 4 !== 0 || map === 0 || mapEnd > size)
    return `its map cannot be from ${formatAddress(map)} to ${formatAddress(mapEnd)}`;
  const free = field(layout.STATE_FREE);
  const grades = field(layout.STATE_GRADES);
  if (free !== map + 4 * capacity || (grades !== 0 && grades !== free + capacity / 8))
    return `its bitmap of free pages cannot be at ${formatAddress(free)}`;
  return undefined;
}

/** Returns the runs in the page map, by address. */
function readRuns(raw: Raw): Run[] {
  const { layout, start, end, pageSize, runAt, isFree, noRun, metadata, complain } = raw;
  const runs: Run[] = [];
  for (let page = start; page < end;) {
    const at = runAt(page);
    const none = at === noRun || at === metadata;
    const run = none ? undefined : readRun(raw, page, at);
    if (run === undefined) {
      if (!none)
        complain(`the page at ${formatAddress(page * pageSize)} does not point to a run that starts there`);
      page += 1;
      continue;
    }
    const inside = run.slots > 1 ? at : noRun;
    let whole = page;
    while (whole < page + run.pages && runAt(whole) === (whole === page ? at : inside) && !isFree(whole))
      whole += 1;
    if (whole === page + run.pages) runs.push(run);
    else
      complain(
        `the ${describe(run, layout)} at ${formatAddress(run.start)} has pages that do not belong to it`,
      );
    page = Math.max(whole, page + 1);
  }
  return runs;
}

/** Returns the free pages, by address. */
function readFree({ start, end, pageSize, isFree, runAt, noRun, complain }: Raw): Region[] {
  const regions: Region[] = [];
  for (let page = start; page < end; page += 1) {
    const first = page;
    while (page < end && isFree(page) && runAt(page) === noRun) page += 1;
    if (page > first) regions.push({ address: first * pageSize, pages: page - first, serves: "free" });
    if (page < end && isFree(page))
      complain(`the page at ${formatAddress(page * pageSize)} counts as free, but points to a run`);
  }
  return regions;
}

/** Returns the Run at an address, if it describes a run that can start at this page. */
function readRun(raw: Raw, page: number, at: number): Run | undefined {
  const { layout, pageSize, end, word } = raw;
  const half = (offset: number): number => (word(at + offset) >>> (8 * (offset % 4))) & 0xffff;
  const [kind, slots] = [half(layout.RUN_KIND), half(layout.RUN_SLOTS)];
  if (!canHoldRun(raw, at)) return undefined;
  const [start, size] = [word(at + layout.RUN_START), word(at + layout.RUN_SIZE)];
  const pages = Math.ceil((slots * size) / pageSize);
  const isSound =
    kind >= layout.FIRST_BIN
      ? size === layout.SLOT_SIZES[kind - layout.FIRST_BIN]
      : kind !== layout.NONE && slots === 1 && size % pageSize === 0;
  if (!isSound || start !== page * pageSize || pages === 0 || pages > end - page) return undefined;
  const [free, left] = [word(at + layout.RUN_FREE), word(at + layout.RUN_LEFT) | 0];
  return { at, page, pages, kind, start, size, slots, free, left, freeSlots: 0 };
}

function describe({ kind, size }: Run, { FIRST_BIN }: Layout): string {
  return kind >= FIRST_BIN ? `run of ${size} B slots` : "large block";
}

/** Returns whether there can be a Run at an address. */
function canHoldRun({ layout, start, end, runAt, metadata }: Raw, at: number): boolean {
  const page = at >>> layout.PAGE_BITS;
  return at % layout.RUN_STEP === 0 && page >= start && page < end && runAt(page) === metadata;
}

/** Returns the metadata pages. Checks their lists of spare Runs. */
function readMetadata(raw: Raw, runs: readonly Run[]): number[] {
  const { layout, pageSize, start, end, word, runAt, metadata, complain } = raw;
  const { RUNS_END, RUN_STEP } = layout;
  const used = new Set(runs.map(({ at }) => at));
  const metadataPages: number[] = [];
  for (let page = start; page < end; ++page) {
    if (runAt(page) !== metadata) continue;
    metadataPages.push(page);
    const header = page * pageSize;
    const isSpare = (at: number): boolean =>
      at > header && at < header + RUNS_END && at % RUN_STEP === 0 && !used.has(at);
    let left = RUNS_END / RUN_STEP - 1 - word(header + layout.RUN_LEFT);
    let at = word(header + layout.RUN_FREE);
    for (; left > 0 && isSpare(at); --left) at = (at + RUN_STEP + word(at + layout.RUN_EVENT)) >>> 0;
    if (left !== 0 || at !== header + RUNS_END)
      complain(`the list of spare Runs at ${formatAddress(header)} leads to ${formatAddress(at)}`);
  }
  return metadataPages;
}

/** Counts the free slots of each run: those on its list, and the never-used ones of the bin. */
function countFreeSlots(raw: Raw, runs: readonly Run[]): void {
  const slotRuns = new Map(
    runs.filter(({ kind }) => kind >= raw.layout.FIRST_BIN).map((run) => [run.at, run]),
  );
  if (raw.layout.HARDENED) {
    countHardened(raw, slotRuns);
    return;
  }
  countFresh(raw, slotRuns);
  for (const run of slotRuns.values()) countListed(raw, run);
  countThreads(raw, slotRuns);
}

/** Returns whether a slot of the run starts at an address. */
function isSlot({ start, size, slots }: Run, address: number): boolean {
  const offset = address - start;
  return offset >= 0 && offset % size === 0 && offset < slots * size;
}

function countFresh({ layout, field, runAt, complain }: Raw, slotRuns: ReadonlyMap<number, Run>): void {
  for (const [bin, size] of layout.SLOT_SIZES.entries()) {
    const at = layout.BIN_TABLE + layout.BIN_STEP * (bin + layout.FIRST_BIN);
    const [from, to] = [field(at + layout.BIN_FRESH), field(at + layout.BIN_FRESH_END)];
    if (from === to) continue;
    const run = slotRuns.get(runAt(from >>> layout.PAGE_BITS));
    if (run?.size === size && isSlot(run, from) && to === run.start + run.slots * size)
      run.freeSlots = (to - from) / size;
    else
      complain(`the never-used slots of ${size} B from ${formatAddress(from)} on are not slots of that size`);
  }
}

function countListed({ layout, word, complain }: Raw, run: Run): void {
  const name = `the list of free ${run.size} B slots`;
  let listed = 0;
  for (let slot = run.free; slot !== 0; slot = word(slot)) {
    if (!isSlot(run, slot)) {
      complain(
        `${name} leads to ${formatAddress(slot)}, which is not one: written to after free, or invalid free`,
      );
      return;
    }
    if (run.freeSlots === run.slots) {
      complain(`${name} has ${formatAddress(slot)} twice: double free`);
      return;
    }
    run.freeSlots += 1;
    listed += 1;
  }
  // Which of the two applies depends on whether the run is in its bin's ring: src/bins.ts.
  const left = run.left - (run.left > layout.QUEUED / 2 ? layout.QUEUED : 0);
  if (left !== run.slots - listed && left !== 1 - listed)
    complain(
      `the run at ${formatAddress(run.start)} has ${listed} slots on its list, but counts another number`,
    );
}

/** In a hardened build each run has a bit for each free slot; slots in quarantine are free too. */
function countHardened(
  { layout, field, word, runAt, complain }: Raw,
  slotRuns: ReadonlyMap<number, Run>,
): void {
  const places = [layout.FREE_BITS, layout.OTHER_FREE_BITS].flatMap((bits) => [bits, bits + 4]);
  for (const run of slotRuns.values()) {
    const free = places.reduce((sum, place) => sum + countBits(word(run.at + place)), 0);
    run.freeSlots = Math.min(free, run.slots);
    if (run.freeSlots !== free)
      complain(
        `the run at ${formatAddress(run.start)} counts ${free} free slots, but has ${run.slots} slots`,
      );
  }
  for (let place = 0; place < layout.QUARANTINE_SLOTS; ++place) {
    const slot = field(layout.QUARANTINE + 4 * place);
    if (slot === 0) continue;
    const run = slotRuns.get(runAt(slot >>> layout.PAGE_BITS));
    if (run !== undefined && isSlot(run, slot) && run.freeSlots < run.slots) run.freeSlots += 1;
    else complain(`the quarantine holds ${formatAddress(slot)}, which is not a slot in use`);
  }
}

function countBits(word: number): number {
  let bits = 0;
  for (let rest = word; rest !== 0; rest &= rest - 1) bits += 1;
  return bits;
}

/** Counts the slots in thread caches and batches, which are free too. */
function countThreads(raw: Raw, slotRuns: ReadonlyMap<number, Run>): void {
  const cached = new Set<number>();
  countCached(raw, (slot) => {
    const run = slotRuns.get(raw.runAt(slot >>> raw.layout.PAGE_BITS));
    const isUsed = run !== undefined && isSlot(run, slot) && run.freeSlots < run.slots && !cached.has(slot);
    cached.add(slot);
    if (isUsed) run.freeSlots += 1;
    else
      raw.complain(
        `a thread's list of free slots leads to ${formatAddress(slot)}, which is not one: written to after free, invalid free or freed twice`,
      );
    return isUsed;
  });
}

/** Returns the addresses of large blocks that were freed, but whose pages are not free yet. */
function readFreedBlocks(
  { layout, word, noRun, metadata, complain }: Raw,
  runs: readonly Run[],
): Set<number> {
  const { LARGE, QUEUED } = layout;
  const freed = new Set<number>();
  if (layout.HARDENED) return freed;
  for (const none of [noRun, metadata]) {
    const wrong = word(none + layout.RUN_FREE);
    if (wrong !== 0) complain(`${formatAddress(wrong)} was freed, where no block starts`);
  }
  for (const { kind, start, free, left } of runs) {
    if (left === 1 || kind !== LARGE) continue;
    // A sample may be taken between the two updates.
    if (free === start && (left === QUEUED || left === 0)) freed.add(start);
    else complain(`${formatAddress(free)} was freed twice, or is not the start of a large block`);
  }
  return freed;
}

/** Returns a run as a region of the report. */
function regionOf(
  { kind, start: address, pages, size, slots, freeSlots }: Run,
  { LARGE }: Layout,
  freed: ReadonlySet<number>,
): Region {
  if (freed.has(address)) return { address, pages, serves: "free" };
  if (kind === LARGE) return { address, pages, serves: "large" };
  return { address, pages, serves: "slots", slotSize: size, slots, usedSlots: slots - freeSlots };
}

/** Returns the gaps between regions: pages in `own` hold the allocator's data, the others are not part of the heap. */
function gapsBetween(
  { start, end, pageSize }: Raw,
  regions: readonly Region[],
  own: ReadonlySet<number>,
): Region[] {
  const gaps: Region[] = [];
  const add = (from: number, to: number): void => {
    for (let page = from; page < to;) {
      const first = page;
      while (page < to && own.has(page) === own.has(first)) page += 1;
      const serves = own.has(first) ? "map" : "other";
      gaps.push({ address: first * pageSize, pages: page - first, serves });
    }
  };
  let next = start;
  for (const { address, pages } of regions) {
    add(next, address / pageSize);
    next = Math.max(next, address / pageSize + pages);
  }
  add(next, end);
  return gaps;
}

/** Returns the pages from the one in which `from` lies to the last before `to`. */
function pagesFrom({ pageSize, end }: Raw, from: number, to: number): number[] {
  const first = Math.floor(from / pageSize);
  const pages = Math.max(0, Math.min(Math.ceil(to / pageSize), end) - first);
  return Array.from({ length: pages }, (_, index) => first + index);
}

function sum(of: readonly Region[], value: (region: Region) => number): number {
  return of.reduce((total, region) => total + value(region), 0);
}

/** The smallest slot in a heap with thread caches (LEAST_BIN in src/config.ts). */
const SMALLEST_CACHED = 8;

/** Returns the smallest request that a bin serves. */
function leastRequest({ layout, field }: Raw, bin: number): number {
  const { HARDENED, SLOT_SIZES, SMALLEST_SLOT, STATE_CACHES, TAIL_SIZE } = layout;
  const smallest = HARDENED ? SMALLEST_SLOT : field(STATE_CACHES) !== 0 ? SMALLEST_CACHED : 0;
  const smaller = SLOT_SIZES[bin - 1] ?? 0;
  return smaller === 0 || smaller < smallest ? 0 : smaller - (HARDENED ? TAIL_SIZE : 0) + 1;
}

/** Returns the bins that have pages, smallest slots first. */
function binsOf(regions: readonly Region[], raw: Raw): BinReport[] {
  const bins = raw.layout.SLOT_SIZES.map((slotSize, bin): BinReport => {
    const mine = regions.filter((region) => region.slotSize === slotSize);
    const pages = sum(mine, (region) => region.pages);
    const slots = sum(mine, (region) => region.slots!);
    const usedSlots = sum(mine, (region) => region.usedSlots!);
    const waste = pages * raw.pageSize - slots * slotSize;
    const rounding = usedSlots * (slotSize - leastRequest(raw, bin));
    return { slotSize, pages, slots, usedSlots, waste, rounding };
  });
  return bins.filter(({ pages }) => pages > 0);
}

function readHeap(memory: ArrayBufferLike, state: number, layout: Layout): HeapReport {
  const damage: string[] = [];
  const raw = open(memory, state, layout, damage);
  const { pageSize } = raw;
  const runs = readRuns(raw);
  countFreeSlots(raw, runs);
  const freed = readFreedBlocks(raw, runs);
  const cachePages = [...cachesOf(raw)].flatMap((cache) => pagesFrom(raw, cache, cache + cacheSize(layout)));
  const recordPages = [...readMetadata(raw, runs), ...cachePages];
  const own = new Set([...recordPages, ...pagesFrom(raw, raw.map, raw.mapEnd)]);

  const byAddress = (a: Region, b: Region): number => a.address - b.address;
  const known = [...runs.map((run) => regionOf(run, layout, freed)), ...readFree(raw)].sort(byAddress);
  const regions = [...known, ...gapsBetween(raw, known, own)].sort(byAddress);
  const bytes = (region: Region): number => region.pages * pageSize;
  const serving = (serves: Region["serves"]): Region[] =>
    regions.filter((region) => region.serves === serves);

  const [large, free, slots] = [serving("large"), serving("free"), serving("slots")];
  const heap = sum([...large, ...free, ...slots], bytes);
  const inUse = sum(large, bytes) + sum(slots, (region) => region.usedSlots! * region.slotSize!);
  return {
    state,
    pageSize,
    start: raw.start * pageSize,
    end: raw.end * pageSize,
    heap,
    inUse,
    free: heap - inUse,
    peak: raw.field(layout.STATE_PEAK) * pageSize,
    mapSize: raw.mapEnd - raw.map + recordPages.length * pageSize,
    bins: binsOf(regions, raw),
    large: { blocks: large.length, bytes: sum(large, bytes) },
    freeRuns: {
      runs: free.length,
      bytes: sum(free, bytes),
      longest: free.reduce((most, run) => Math.max(most, bytes(run)), 0),
    },
    regions,
    damage,
    ...readFault(raw),
  };
}

function readFault({ layout, field, word }: Raw): Pick<HeapReport, "fault"> {
  const message = layout.HARDENED ? field(layout.FAULT_MESSAGE) : 0;
  if (message === 0) return {};
  let text = "";
  for (let at = message; text.length < 80; at += 1) {
    const byte = (word(at) >>> (8 * (at % 4))) & 0xff;
    if (byte < 0x20 || byte > 0x7e) break;
    text += String.fromCharCode(byte);
  }
  return { fault: { message: text, block: field(layout.FAULT_BLOCK), size: field(layout.FAULT_SIZE) } };
}
