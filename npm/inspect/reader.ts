/**
 * Reads a heap from outside: finds the allocator's state in a memory by its magic number and walks the page map and
 * the lists of free slots. Reads nothing but the memory, and trusts nothing in it: a damaged heap gives a report that
 * says so. Works in Node and in browsers.
 */
import { countCached } from "./cached.ts";
import { formatAddress } from "./format.ts";
import type { Layout } from "./layout.ts";

/** Neighbouring pages that serve one thing. Sizes in bytes. */
export interface Region {
  readonly address: number;
  readonly pages: number;
  /** "other": memory that is not the heap's. "map": the allocator's own page map. "slots": a run that a bin fills. */
  readonly serves: "other" | "map" | "free" | "large" | "slots";
  /** Of slots only. */
  readonly slotSize?: number;
  readonly slots?: number;
  readonly usedSlots?: number;
}

/** What a bin holds. */
export interface BinReport {
  readonly slotSize: number;
  readonly pages: number;
  readonly slots: number;
  readonly usedSlots: number;
  /** Behind the last slot of its runs, where no slot fits. */
  readonly waste: number;
  /** By how much its used slots are larger than what was asked for, at most: a smaller request has a smaller bin. */
  readonly rounding: number;
}

/** A heap at one moment. Sizes in bytes, addresses unsigned. */
export interface HeapReport {
  /** Where the allocator's state lies. */
  readonly state: number;
  readonly pageSize: number;
  /** From its first page to the end of its last, other people's memory between them included. */
  readonly start: number;
  readonly end: number;
  /** Pages that serve blocks or could. The next two add up to it. */
  readonly heap: number;
  /** In blocks that are in use, rounded up to slots and pages. */
  readonly inUse: number;
  readonly free: number;
  /** The most bytes ever in pages that served blocks. */
  readonly peak: number;
  /** Of the page map. */
  readonly mapSize: number;
  /** Smallest slots first; those without pages are left out. */
  readonly bins: readonly BinReport[];
  readonly large: { readonly blocks: number; readonly bytes: number };
  readonly freeRuns: { readonly runs: number; readonly bytes: number; readonly longest: number };
  /** The heap from start to end. */
  readonly regions: readonly Region[];
  /** What cannot be in a sound heap, one line each. */
  readonly damage: readonly string[];
  /** What a hardened heap trapped for. The size of the block is 0 where it is not known. */
  readonly fault?: { readonly message: string; readonly block: number; readonly size: number };
}

/** How many lines of damage a report has. */
const MOST_DAMAGE = 20;
/** The state is aligned so, in bytes. */
const STATE_ALIGNMENT = 16;

/**
 * The heaps in a memory, by address of their state: one, or more where libraries bring their own, none before the
 * first allocation. `layouts` are those that a state may have. Throws an Error of one line if there is what was a heap
 * before its state was overwritten, and nothing else.
 */
export function readHeaps(memory: ArrayBufferLike, layouts: readonly Layout[]): HeapReport[] {
  const heaps: HeapReport[] = [];
  let doubt: string | undefined;
  // A state lies before every heap.
  let limit = memory.byteLength;
  const words = new Uint32Array(memory, 0, memory.byteLength >>> 2);
  for (let state = STATE_ALIGNMENT; state < limit; state += STATE_ALIGNMENT) {
    for (const layout of layouts) {
      if (words[(state + layout.STATE_MAGIC) >>> 2] !== layout.MAGIC) continue;
      const wrong = whatIsWrong(memory, state, layout);
      if (wrong === undefined) {
        const heap = readHeap(memory, state, layout);
        limit = Math.min(limit, Math.max(heap.start, state + layout.STATE_SIZE));
        heaps.push(heap);
      } else {
        doubt ??= `the heap whose state is at ${formatAddress(state)} is damaged: ${wrong}`;
      }
    }
  }
  if (heaps.length === 0 && doubt !== undefined) throw new Error(doubt);
  return heaps;
}

/** Memory from one address to another. */
type Range = readonly [from: number, to: number];

/** A heap's memory, with names for what is where. */
interface Raw {
  readonly layout: Layout;
  readonly pageSize: number;
  /** A field of the state; a word of memory, 0 outside; what the map holds of a page. Unsigned. */
  readonly field: (offset: number) => number;
  readonly word: (address: number) => number;
  readonly info: (page: number, offset: number) => number;
  readonly kindOf: (page: number) => number;
  /** Slots of a bin's run. */
  readonly slotsOf: (bin: number) => number;
  readonly start: number;
  readonly end: number;
  /** What the heap keeps for itself: the page map with its directory, and the infos of each region. */
  readonly own: readonly Range[];
  /** Notes damage. */
  readonly complain: (line: string) => void;
}

/** A Region in the making. */
interface Run {
  readonly page: number;
  pages: number;
  readonly serves: Region["serves"];
  /** Of slots only: the number of the bin, and what the free lists hold of the run. */
  readonly bin: number;
  freeSlots: number;
}

function open(memory: ArrayBufferLike, state: number, layout: Layout, damage: string[]): Raw {
  const { REGION_BITS, INFO_SIZE, SLOT_SIZES, RUN_PAGES } = layout;
  const words = new Uint32Array(memory, 0, memory.byteLength >>> 2);
  const bytes = new Uint8Array(memory);
  const word = (address: number): number => words[address >>> 2] ?? 0;
  const field = (offset: number): number => word(state + offset);
  const pageSize = 2 ** layout.PAGE_BITS;
  const kinds = field(layout.STATE_KINDS);
  const [start, end] = [field(layout.STATE_START), field(layout.STATE_END)];
  // The directory lies before the kinds, and grows downwards.
  const infosOf = (region: number): number => word(kinds - 4 - 4 * region);
  const capacity = field(layout.STATE_CAPACITY);
  const regions = Array.from({ length: endOf(end, REGION_BITS) }, (_, region) => infosOf(region));
  const mask = 2 ** REGION_BITS - 1;
  return {
    layout,
    pageSize,
    field,
    word,
    info: (page, offset) => word(infosOf(page >>> REGION_BITS) + (page & mask) * INFO_SIZE + offset),
    kindOf: (page) => (page >= start && page < end ? bytes[kinds + page]! : layout.NONE),
    slotsOf: (bin) => Math.floor((RUN_PAGES[bin]! * pageSize) / SLOT_SIZES[bin]!),
    start,
    end,
    own: [
      [kinds - 4 * (capacity >>> REGION_BITS), kinds + capacity],
      ...regions.filter(Boolean).map((infos) => [infos, infos + (mask + 1) * INFO_SIZE] as const),
    ],
    complain: (line) => {
      if (damage.length < MOST_DAMAGE) damage.push(line);
    },
  };
}

/** How many regions there are up to the page `end`. */
function endOf(end: number, regionBits: number): number {
  return Math.ceil(Math.min(end, 2 ** 20) / 2 ** regionBits);
}

/** Says why the fields of a state cannot be right. */
function whatIsWrong(memory: ArrayBufferLike, state: number, layout: Layout): string | undefined {
  const size = memory.byteLength;
  if (state + layout.STATE_SIZE > size) return "it does not fit the memory";
  const { start, end, own, field } = open(memory, state, layout, []);
  const capacity = field(layout.STATE_CAPACITY);
  const kinds = field(layout.STATE_KINDS);
  // Before memory could grow for the first time there is no map.
  if (kinds === 0 && end === 0) return undefined;
  if (start > end) return `its first page is ${start} and its end is page ${end}`;
  if (end > size >>> layout.PAGE_BITS) return `its end is page ${end}, which is not in the memory`;
  if (capacity < end) return `its map is for ${capacity} pages, of ${end}`;
  const outside = own.find(([from, to]) => from % 4 !== 0 || from <= 0 || to > size);
  return outside && `its map would lie from ${formatAddress(outside[0])} to ${formatAddress(outside[1])}`;
}

/** The runs that the page map has, by address. */
function readRuns(raw: Raw): Run[] {
  const { layout, start, end, pageSize, info, kindOf, complain } = raw;
  const { FIRST_BIN, FREE, NONE, SLOT_SIZES, RUN_PAGES } = layout;
  const runs: Run[] = [];
  const ownPages = new Set<number>();
  for (const [from, to] of raw.own)
    for (let page = Math.floor(from / pageSize); page < Math.min(to / pageSize, end); ++page)
      ownPages.add(page);
  const read = (page: number): Run => {
    const kind = kindOf(page);
    const run = { page, pages: 1, bin: -1, freeSlots: 0 };
    if (kind === NONE) return { ...run, serves: ownPages.has(page) ? "map" : "other" };
    const bin = kind - FIRST_BIN;
    const pages = kind < FIRST_BIN ? info(page, layout.INFO_PAGES) : (RUN_PAGES[bin] ?? 0);
    if (pages === 0 || pages > end - page) {
      complain(
        `the page at ${formatAddress(page * pageSize)} is of kind ${kind}, in a run of ${pages} pages`,
      );
      return { ...run, serves: "other" };
    }
    if (kind < FIRST_BIN) return { ...run, pages, serves: kind === FREE ? "free" : "large" };
    let whole = 0;
    while (
      whole < pages &&
      kindOf(page + whole) === kind &&
      Math.min(distance(raw, page + whole), 0) === -whole
    )
      whole += 1;
    if (whole < pages)
      complain(`the run of ${SLOT_SIZES[bin]} B slots at ${formatAddress(page * pageSize)} is not whole`);
    return { ...run, pages: Math.max(whole, 1), serves: whole < pages ? "other" : "slots", bin };
  };
  for (let page = start; page < end;) {
    const run = read(page);
    page += run.pages;
    const last = runs.at(-1);
    // The map and other people's memory are no runs: their pages come one at a time.
    if (last?.serves === run.serves && (run.serves === "map" || run.serves === "other"))
      last.pages += run.pages;
    else runs.push(run);
  }
  return runs;
}

/** Of a page of slots: minus the distance to its run's first page, or on that page counts of free slots. */
function distance(raw: Raw, page: number): number {
  return raw.info(page, raw.layout.INFO_FREE) | 0;
}

/** Counts the free slots of each run: a bin's list has some, the run's own list others, and fresh ones are in none. */
function countFreeSlots(raw: Raw, runs: readonly Run[]): void {
  const { layout, pageSize, word, complain } = raw;
  const byPage = new Map(runs.filter(({ serves }) => serves === "slots").map((run) => [run.page, run]));
  const runOf = (slot: number, bin: number): Run | undefined => {
    const page = slot >>> layout.PAGE_BITS;
    const first = page + Math.min(distance(raw, page), 0);
    const run = raw.kindOf(page) === bin + layout.FIRST_BIN ? byPage.get(first) : undefined;
    const offset = slot - first * pageSize;
    const size = layout.SLOT_SIZES[bin]!;
    return offset % size === 0 && offset < raw.slotsOf(bin) * size ? run : undefined;
  };
  const walk = (head: number, bin: number, own?: Run): number => {
    const name = `the list of free ${layout.SLOT_SIZES[bin]} B slots`;
    let count = 0;
    for (let slot = head; slot !== 0; slot = word(slot)) {
      const run = runOf(slot, bin);
      if (run === undefined || (own !== undefined && run !== own)) {
        complain(
          `${name} leads to ${formatAddress(slot)}, where there is none: written to after free, or freed wrongly`,
        );
        break;
      }
      if (run.freeSlots === raw.slotsOf(bin)) {
        complain(`${name} has ${formatAddress(slot)} twice: freed twice`);
        break;
      }
      run.freeSlots += 1;
      count += 1;
    }
    return count;
  };
  if (layout.HARDENED) {
    for (const run of byPage.values())
      run.freeSlots = Math.min(distance(raw, run.page), raw.slotsOf(run.bin));
    for (let place = 0; place < layout.QUARANTINE_SLOTS; ++place) {
      const slot = raw.field(layout.QUARANTINE + 4 * place);
      const run = runOf(slot, raw.kindOf(slot >>> layout.PAGE_BITS) - layout.FIRST_BIN);
      if (run !== undefined && run.freeSlots < raw.slotsOf(run.bin)) run.freeSlots += 1;
      else if (slot !== 0) complain(`the quarantine holds ${formatAddress(slot)}, where no slot is`);
    }
    return;
  }
  for (const bin of layout.SLOT_SIZES.keys())
    walk(raw.field(layout.LISTS + 4 * (bin + layout.FIRST_BIN)), bin);
  for (const run of byPage.values()) {
    const counts = Math.max(distance(raw, run.page), 0);
    const fresh = Math.min(Math.floor(counts / layout.FRESH), raw.slotsOf(run.bin));
    const listed = (counts % layout.FRESH) - fresh;
    run.freeSlots += fresh;
    if (listed !== 0 && walk(raw.info(run.page, layout.INFO_PAGES), run.bin, run) !== listed)
      complain(
        `the run at ${formatAddress(run.page * pageSize)} has not the ${listed} free slots that it counts`,
      );
  }
  const cached = new Set<number>();
  countCached(raw, (slot) => {
    const run = runOf(slot, raw.kindOf(slot >>> layout.PAGE_BITS) - layout.FIRST_BIN);
    const isUsed = run !== undefined && run.freeSlots < raw.slotsOf(run.bin) && !cached.has(slot);
    cached.add(slot);
    if (isUsed) run.freeSlots += 1;
    else
      complain(
        `a thread's free slots lead to ${formatAddress(slot)}, where there is none: written to after free, or freed wrongly or twice`,
      );
    return isUsed;
  });
}

/** The addresses of freed large blocks that are not free yet in the page map. */
function readFreedBlocks(raw: Raw): Set<number> {
  const { layout, kindOf, word, field, complain } = raw;
  const freed = new Set<number>();
  for (let block = field(layout.LISTS + 4 * layout.LARGE); block !== 0; block = word(block)) {
    if (
      block % raw.pageSize !== 0 ||
      kindOf(block >>> layout.PAGE_BITS) !== layout.LARGE ||
      freed.has(block)
    ) {
      complain(`${formatAddress(block)} was freed twice, or no large block starts there`);
      break;
    }
    freed.add(block);
  }
  for (const kind of [layout.NONE, layout.FREE]) {
    const wrong = field(layout.LISTS + 4 * kind);
    if (wrong !== 0) complain(`${formatAddress(wrong)} was freed, where no block starts`);
  }
  return freed;
}

function readHeap(memory: ArrayBufferLike, state: number, layout: Layout): HeapReport {
  const damage: string[] = [];
  const raw = open(memory, state, layout, damage);
  const { pageSize } = raw;
  const runs = readRuns(raw);
  countFreeSlots(raw, runs);
  const freed = readFreedBlocks(raw);

  const regions = runs.map(({ page, pages, serves, bin, freeSlots }): Region => {
    const address = page * pageSize;
    if (serves === "large") return { address, pages, serves: freed.has(address) ? "free" : serves };
    if (serves !== "slots") return { address, pages, serves };
    const slots = raw.slotsOf(bin);
    return { address, pages, serves, slotSize: layout.SLOT_SIZES[bin]!, slots, usedSlots: slots - freeSlots };
  });
  const sum = (of: readonly Region[], value: (region: Region) => number): number =>
    of.reduce((total, region) => total + value(region), 0);
  const bytes = (region: Region): number => region.pages * pageSize;
  const serving = (serves: Region["serves"]): Region[] =>
    regions.filter((region) => region.serves === serves);

  const bins = layout.SLOT_SIZES.map((slotSize, bin): BinReport => {
    const mine = regions.filter((region) => region.slotSize === slotSize);
    const slots = sum(mine, (region) => region.slots!);
    const usedSlots = sum(mine, (region) => region.usedSlots!);
    const waste = sum(mine, bytes) - slots * slotSize;
    const rounding = usedSlots * (slotSize - (layout.SLOT_SIZES[bin - 1] ?? 0) - 1);
    return { slotSize, pages: sum(mine, (region) => region.pages), slots, usedSlots, waste, rounding };
  });
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
    mapSize: raw.own.reduce((size, [from, to]) => size + to - from, 0),
    bins: bins.filter(({ pages }) => pages > 0),
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
