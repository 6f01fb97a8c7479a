/**
 * Checks every invariant of a heap: walks the page map, all lists and all rings in its memory and compares them with each
 * other, and with the blocks that should be in use. What it knows of the layout comes from lib/layout.json.
 */
import { readFileSync } from "node:fs";
import path from "node:path";
import type { Layout as InspectorLayout } from "../npm/inspect/layout.ts";
import { ROOT } from "../tools/command.ts";

interface Layout extends InspectorLayout {
  readonly LAST_PAGE: number;
  readonly SMALL_MAX: number;
  readonly BIN_OF: number;
  readonly CACHE_BIN_BITS: number;
  readonly METADATA_PAGES: number;
  readonly BEST: number;
  readonly STATE_SMALL_END: number;
  readonly STATE_EVENTS: number;
  readonly STATE_FRESH: number;
  readonly STATE_USED: number;
  readonly RUN_NEXT: number;
  readonly RUN_PREV: number;
  readonly BIN_FIRST: number;
  readonly BIN_KEPT: number;
  readonly BIN_SIZE: number;
  readonly BIN_PAGES: number;
  /** By grade of free pages: how many have it, at least. */
  readonly GRADE_MINIMA: readonly number[];
}

const read = (file: string): Layout => JSON.parse(readFileSync(path.join(ROOT, "lib", file), "utf8"));
export const LAYOUT = read("layout.json");
export const HARDENED_LAYOUT = read("layout-hardened.json");

export interface Expected {
  /** Addresses of the blocks in use, if they are to be compared. */
  readonly live?: Iterable<number>;
  /** Memory that is not the heap's, as [from, to): all below its base, and what others took by growing memory. */
  readonly foreign: readonly (readonly [number, number])[];
  /** How many pages, and Runs, may be nobody's, 0 by default: where there are threads, old maps and caches are. */
  readonly unknown?: number;
}

const PAGE = 2 ** LAYOUT.PAGE_BITS;
const { NONE, LARGE, FIRST_BIN, RUN_STEP, QUEUED } = LAYOUT;
/** How many Runs a page has for others. */
const RUNS_PER_PAGE = PAGE / RUN_STEP - 1;
const BINS = LAYOUT.SLOT_SIZES.length;
const ZEROS = new Uint8Array(PAGE);

/** What serves a page of the heap. */
type Owner = "free" | "large" | "bin" | "map" | "foreign";

/** A Run that the page map leads to. */
interface Run {
  readonly at: number;
  readonly page: number;
  readonly pages: number;
  readonly kind: number;
  readonly start: number;
  readonly size: number;
  readonly slots: number;
  readonly free: number;
  /** Without what it is more while an event waits. */
  readonly left: number;
  readonly queued: boolean;
  readonly inRing: boolean;
}

/** A heap's words and bytes, by their names. */
interface Raw {
  readonly bytes: Uint8Array;
  readonly word: (address: number) => number;
  readonly field: (offset: number) => number;
  /** Of a bin, counted from 0. */
  readonly binField: (bin: number, offset: number) => number;
  /** The Runs for pages in no run, and for pages that Runs lie in. */
  readonly noRun: number;
  readonly metadata: number;
  /** Where the Run of a page is. */
  readonly runAt: (page: number) => number;
  readonly isFree: (page: number) => boolean;
}

/** Throws an Error that names the first invariant which does not hold. A heap that has not started is sound. */
export function checkHeap(memory: ArrayBuffer, state: number, expected: Expected): void {
  const heap = open(memory, state);
  const { field } = heap;
  const live = expected.live && new Set(expected.live);
  if (field(LAYOUT.STATE_MAGIC) === 0) {
    check(!live?.size, "blocks in use, but the heap has not started");
    return;
  }
  check(field(LAYOUT.STATE_MAGIC) === LAYOUT.MAGIC, "the state has another magic number");

  checkSizes(heap, state);
  checkMap(heap, memory.byteLength);
  const runs = readRuns(heap);
  checkEvents(heap, runs);
  const metadataPages = checkRecords(heap, runs, state, expected);
  checkOwners(heap, runs, metadataPages, expected);
  checkFree(heap);
  checkFresh(heap, runs);
  const free = new Set(runs.filter(({ kind, queued }) => kind === LARGE && queued).map(({ start }) => start));
  checkSlots(heap, runs, state, free);
  checkCounts(heap, runs);
  if (live) checkLive(heap, runs, free, live);
}

function open(memory: ArrayBuffer, state: number): Raw {
  const bytes = new Uint8Array(memory);
  const words = new Uint32Array(memory);
  const word = (address: number): number => {
    check(address % 4 === 0 && address + 4 <= bytes.length, `${address} is no address of a word`);
    return words[address / 4]!;
  };
  const field = (offset: number): number => word(state + offset);
  const [map, free] = [field(LAYOUT.STATE_MAP), field(LAYOUT.STATE_FREE)];
  return {
    bytes,
    word,
    field,
    binField: (bin, offset) => field(LAYOUT.BIN_TABLE + LAYOUT.BIN_STEP * (FIRST_BIN + bin) + offset),
    noRun: state + LAYOUT.NO_RUN,
    metadata: state + LAYOUT.METADATA,
    runAt: (page) => word(map + 4 * page),
    isFree: (page) => ((bytes[free + (page >>> 3)]! >>> (page & 7)) & 1) === 1,
  };
}

/** A signed number. */
function leftOf({ word }: Raw, run: number): number {
  return word(run + LAYOUT.RUN_LEFT) | 0;
}

/** The bins' sizes, and the table of the bins of small sizes. */
function checkSizes({ field, binField }: Raw, state: number): void {
  for (const [bin, size] of LAYOUT.SLOT_SIZES.entries())
    check(binField(bin, LAYOUT.BIN_SIZE) === size, `bin ${bin} has not slots of ${size} bytes`);
  check(field(LAYOUT.STATE_SMALL_END) === LAYOUT.SMALL_MAX + 1, "small sizes are not looked up");
  for (let size = 0; size <= LAYOUT.SMALL_MAX; size += 4) {
    const entry = field(LAYOUT.BIN_OF + size);
    const kind = FIRST_BIN + LAYOUT.SLOT_SIZES.findIndex((slot) => slot >= size);
    const inCache = entry >> LAYOUT.CACHE_BIN_BITS;
    // Thread caches have no slots of a word.
    const isRight =
      entry === state + LAYOUT.BIN_TABLE + LAYOUT.BIN_STEP * kind ||
      inCache === kind ||
      (kind === FIRST_BIN && inCache === kind + 1);
    check(isRight, `${size} bytes do not lead to their bin`);
  }
}

function checkMap(heap: Raw, size: number): void {
  const { field, word, noRun, metadata } = heap;
  const [map, capacity] = [field(LAYOUT.STATE_MAP), field(LAYOUT.STATE_CAPACITY)];
  const [start, end] = [field(LAYOUT.STATE_START), field(LAYOUT.STATE_END)];
  check(start < end, `the heap from page ${start} to ${end} is empty`);
  check(end <= LAYOUT.LAST_PAGE, `the heap goes on to page ${end}`);
  check(end * PAGE <= size, "the heap ends behind the memory");
  check(end < capacity, "the map is smaller than the heap");
  check(field(LAYOUT.STATE_FRESH) <= end, "pages behind the heap were handed out");
  check(map % 4 === 0, "the map is not aligned");
  check(capacity % LAYOUT.WORD_PAGES === 0, "the map ends within a word of bits");
  check(field(LAYOUT.STATE_FREE) === map + 4 * capacity, "the bits of free pages are not behind the map");
  check(
    field(LAYOUT.STATE_GRADES) === map + 4 * capacity + capacity / 8,
    "the grades are not behind the bits",
  );
  check(map >= start * PAGE && mapEnd(heap) <= end * PAGE, "the map is not in the heap");
  for (let page = 0; page < capacity; page = page + 1 === start ? end : page + 1) {
    check(heap.runAt(page) === noRun, `page ${page}, before or behind the heap, is in a run`);
    check(!heap.isFree(page), `page ${page}, before or behind the heap, is free`);
  }
  for (const [name, run] of Object.entries({ noRun, metadata })) {
    check(word(run + LAYOUT.RUN_KIND) === NONE, `${name} serves something`);
    check(word(run + LAYOUT.RUN_START) === 0 && word(run + LAYOUT.RUN_SIZE) === 0, `${name} has pages`);
    check(word(run + LAYOUT.RUN_NEXT) === 0, `${name} is in a ring`);
  }
  for (const run of [noRun, metadata])
    check(leftOf(heap, run) === 1, "an address was freed that is no block's");
}

/** The end of what lies with the map. */
function mapEnd({ field }: Raw): number {
  return field(LAYOUT.STATE_GRADES) + field(LAYOUT.STATE_CAPACITY) / LAYOUT.WORD_PAGES + LAYOUT.END_GRADES;
}

/** The runs of every kind, in order. Their pages lead to them as their kind and slots want it, and all others to `noRun`. */
function readRuns(heap: Raw): Run[] {
  const { field, runAt, noRun, metadata } = heap;
  const runs: Run[] = [];
  const end = field(LAYOUT.STATE_END);
  for (let page = field(LAYOUT.STATE_START); page < end;) {
    if (runAt(page) === noRun || runAt(page) === metadata) {
      page += 1;
      continue;
    }
    const run = readRun(heap, page);
    const { kind, pages, slots } = run;
    for (let inner = page + 1; inner < page + pages; ++inner) {
      check(
        runAt(inner) === (slots > 1 ? run.at : noRun),
        `page ${inner}, in the run at ${page} of kind ${kind}, leads elsewhere`,
      );
    }
    runs.push(run);
    page += pages;
  }
  return runs;
}

/** The run that begins at a page. */
function readRun(heap: Raw, page: number): Run {
  const { word, field } = heap;
  const at = heap.runAt(page);
  const shorts = word(at + LAYOUT.RUN_KIND);
  check(LAYOUT.RUN_SLOTS === LAYOUT.RUN_KIND + 2, "the layout is another one");
  const [kind, slots] = [shorts & 0xffff, shorts >>> 16];
  const [start, size] = [word(at + LAYOUT.RUN_START), word(at + LAYOUT.RUN_SIZE)];
  const pages = Math.ceil((slots * size) / PAGE);
  const where = `the run at page ${page}`;
  check(start === page * PAGE, `${where} starts at ${start}`);
  check(kind > NONE && kind < FIRST_BIN + BINS, `${where} has kind ${kind}`);
  check(pages > 0 && page + pages <= field(LAYOUT.STATE_END), `${where} has ${pages} pages`);
  if (kind < FIRST_BIN) check(slots === 1 && size % PAGE === 0, `${where} has ${slots} times ${size} bytes`);
  else {
    const bytes = LAYOUT.SLOT_SIZES[kind - FIRST_BIN];
    check(size === bytes, `${where} of bin ${kind - FIRST_BIN} has slots of ${size} bytes`);
  }
  const left = leftOf(heap, at);
  // An event takes less from it than any run has slots.
  const queued = left > QUEUED / 2;
  const inRing = word(at + LAYOUT.RUN_NEXT) !== 0;
  check(kind !== LARGE || !inRing, `${where}, a large block, is in a ring`);
  const free = word(at + LAYOUT.RUN_FREE);
  return {
    at,
    page,
    pages,
    kind,
    start,
    size,
    slots,
    free,
    left: queued ? left - QUEUED : left,
    queued,
    inRing,
  };
}

/** All runs that say so, and no others, wait for `settle`. */
function checkEvents({ field, word }: Raw, runs: readonly Run[]): void {
  const queued = new Map(runs.filter((run) => run.queued).map((run) => [run.at, run]));
  for (let at = field(LAYOUT.STATE_EVENTS); at !== 0; at = word(at + LAYOUT.RUN_EVENT)) {
    const run = queued.get(at);
    check(run !== undefined, `${at} is on the list of events, but should not be`);
    if (run.kind === LARGE) {
      check(run.left === 0, `the block at page ${run.page} was freed more than once`);
      check(run.free === run.start, `${run.free} was freed, where no large block starts`);
    }
    queued.delete(at);
  }
  for (const { page } of queued.values())
    check(false, `the run at page ${page} is not on the list of events`);
}

/** Runs are in pages made of them, each in use or in the page's list, and none both or lost. Returns those pages' addresses. */
function checkRecords(heap: Raw, runs: readonly Run[], state: number, { unknown = 0 }: Expected): number[] {
  const { field, word } = heap;
  const used = new Set(runs.map(({ at }) => at));
  check(used.size === runs.length, "two runs share a Run");

  const metadataPages: number[] = [];
  for (let page = field(LAYOUT.STATE_START); page < field(LAYOUT.STATE_END); ++page)
    if (heap.runAt(page) === heap.metadata) metadataPages.push(page * PAGE);
  const ringed = new Map<number, number>();
  let lost = 0;
  for (const header of metadataPages) {
    const spares = new Set<number>();
    for (let at = word(header + LAYOUT.RUN_FREE); at !== header + PAGE;) {
      const isRun = at > header && at < header + PAGE && at % RUN_STEP === 0;
      check(isRun, `the list of spare Runs in the page at ${header} leads to ${at}`);
      check(!used.has(at) && !spares.has(at), `the spare Run ${at} is in use, or in the list twice`);
      spares.add(at);
      at = (at + RUN_STEP + word(at + LAYOUT.RUN_EVENT)) >>> 0;
    }
    const count = leftOf(heap, header);
    check(count === RUNS_PER_PAGE - spares.size, `the page of Runs at ${header} counts ${count} in use`);
    lost += count;
    for (let at = header + RUN_STEP; at < header + PAGE; at += RUN_STEP) if (used.delete(at)) lost -= 1;
    if (spares.size > 0) ringed.set(header, header);
    else
      check(word(header + LAYOUT.RUN_NEXT) === 0, `the page at ${header} has no spare Run, but is in a ring`);
  }
  // One is in use for nothing, so that the first page stays.
  check(lost <= 1 + unknown, `${lost - 1} Runs are lost`);
  check(used.size === 0, `the Runs at ${[...used].join(", ")} are in no page of Runs`);
  const ring = readRing(
    heap,
    state + LAYOUT.METADATA_PAGES - LAYOUT.RUN_NEXT,
    ringed,
    "the ring of spare Runs",
  );
  check(ring.length === ringed.size, "a page with spare Runs is in no ring");
  return metadataPages;
}

/** Each page of the heap has one owner, and none is lost. */
function checkOwners(
  heap: Raw,
  runs: readonly Run[],
  metadataPages: readonly number[],
  { foreign, unknown = 0 }: Expected,
): void {
  const { field, isFree } = heap;
  const start = field(LAYOUT.STATE_START);
  const owners: (Owner | undefined)[] = Array.from({ length: field(LAYOUT.STATE_END) - start });
  const own = (from: number, to: number, owner: Owner, shared = false): void => {
    for (let page = Math.max(from, start); page < Math.min(to, start + owners.length); ++page) {
      const before = owners[page - start];
      check(before === undefined || shared, `page ${page} is both ${before} and ${owner}`);
      owners[page - start] = owner;
    }
  };
  // The first map may share its first page with the program's data, as data may share pages with each other.
  for (const [from, to] of foreign) own(Math.floor(from / PAGE), Math.ceil(to / PAGE), "foreign", true);
  const map = field(LAYOUT.STATE_MAP);
  own(Math.floor(map / PAGE), Math.ceil(map / PAGE), "map", true);
  own(Math.ceil(map / PAGE), Math.ceil(mapEnd(heap) / PAGE), "map");
  for (const header of metadataPages) own(header / PAGE, header / PAGE + 1, "map");
  for (const { page, pages, kind } of runs) own(page, page + pages, kind === LARGE ? "large" : "bin");
  for (let page = start; page < start + owners.length; ++page) if (isFree(page)) own(page, page + 1, "free");
  const lost = owners.flatMap((owner, index) => (owner === undefined ? [start + index] : []));
  check(lost.length <= unknown, `page ${lost[0]} is lost`);
}

/** What is in a ring, which has its place at an address. It is among `all`, by address. */
function readRing<T>({ word }: Raw, ring: number, all: ReadonlyMap<number, T>, name: string): T[] {
  const members: T[] = [];
  for (let at = ring; ;) {
    const next = word(at + LAYOUT.RUN_NEXT);
    check(word(next + LAYOUT.RUN_PREV) === at, `what is behind ${at} in ${name} has another before it`);
    if (next === ring) return members;
    const member = all.get(next);
    check(member !== undefined, `${next}, in ${name}, is none of its runs`);
    check(members.length < all.size, `${name} does not come back to its first run`);
    members.push(member);
    at = next;
  }
}

/** No grade is too low for the free pages that begin in its word, and searches end behind the last. */
function checkFree({ bytes, field, isFree }: Raw): void {
  const { WORD_PAGES, END_GRADES, GRADE_MINIMA, BEST } = LAYOUT;
  const [grades, capacity] = [field(LAYOUT.STATE_GRADES), field(LAYOUT.STATE_CAPACITY)];
  for (let page = 0; page < capacity; ++page) {
    const first = page;
    while (isFree(page)) page += 1;
    const grade = bytes[grades + Math.floor(first / WORD_PAGES)]!;
    const enough =
      page === first || GRADE_MINIMA[Math.min(grade, BEST) + 1]! > page - first || grade === BEST;
    check(enough, `${page - first} free pages begin with page ${first}, in a word of grade ${grade}`);
  }
  for (const grade of bytes.subarray(grades + capacity / WORD_PAGES).subarray(0, END_GRADES))
    check(grade === BEST, "searches for free pages do not end");
}

/** Free pages that were never handed out are zero: `calloc` relies on it. */
function checkFresh({ bytes, field, isFree }: Raw, runs: readonly Run[]): void {
  const fresh = field(LAYOUT.STATE_FRESH);
  for (const { page, pages } of runs)
    check(page + pages <= fresh, `page ${page + pages - 1} is handed out, and fresh`);
  for (let page = fresh; page < field(LAYOUT.STATE_END); ++page) {
    const isFresh = !isFree(page) || isZero(bytes.subarray(page * PAGE, (page + 1) * PAGE));
    check(isFresh, `the fresh page ${page} is not zero`);
  }
}

/** Each bin, and its runs with their lists. Adds their free slots to `free`. */
function checkSlots(heap: Raw, runs: readonly Run[], state: number, free: Set<number>): void {
  const { binField } = heap;
  for (let bin = 0; bin < BINS; ++bin) {
    const own = new Map(runs.filter(({ kind }) => kind === FIRST_BIN + bin).map((run) => [run.at, run]));
    const name = `bin ${bin}`;
    const pages = [...own.values()].reduce((sum, run) => sum + run.pages, 0);
    check(binField(bin, LAYOUT.BIN_PAGES) === pages, `${name} has ${pages} pages, and counts others`);
    const place = state + LAYOUT.BIN_TABLE + LAYOUT.BIN_STEP * (FIRST_BIN + bin);
    const ring = new Set(readRing(heap, place, own, `the ring of ${name}`));
    check(heap.word(place + LAYOUT.RUN_FREE) === 0, `${name} has a free slot of no run`);
    const kept = binField(bin, LAYOUT.BIN_KEPT);
    check(kept === 0 || own.has(kept), `${name} keeps ${kept}, which is none of its runs`);

    const [fresh, freshEnd] = [binField(bin, LAYOUT.BIN_FRESH), binField(bin, LAYOUT.BIN_FRESH_END)];
    const freshRun = [...own.values()].find(
      ({ start, size, slots }) => freshEnd === start + slots * size && fresh >= start,
    );
    check(
      fresh === freshEnd || freshRun !== undefined,
      `${name} has fresh slots that are in none of its runs`,
    );
    for (const run of own.values()) {
      const listed = addListed(heap, run, free);
      for (let slot = fresh; run === freshRun && slot < freshEnd; slot += run.size) addSlot(run, slot, free);
      checkLeft(run, listed, run.at === kept, ring.has(run));
      // Slots are taken from the first run of the ring alone.
      const [first] = ring;
      check(!ring.has(run) || run === first || listed > 0, `the run at page ${run.page} has nothing to give`);
    }
  }
}

/** Adds the slots on a run's list to `free`. Returns how many there are. */
function addListed({ word }: Raw, run: Run, free: Set<number>): number {
  let listed = 0;
  for (let slot = run.free; slot !== 0; slot = word(slot), ++listed) addSlot(run, slot, free);
  return listed;
}

function addSlot(run: Run, slot: number, free: Set<number>): void {
  check(isSlot(run, slot), `${slot} is a free slot of the run at page ${run.page}, but there is none`);
  check(!free.has(slot), `the slot ${slot} is free twice`);
  free.add(slot);
}

/** A run of slots counts what is left until there is an event, and is where that says it is. */
function checkLeft(run: Run, listed: number, isKept: boolean, isMember: boolean): void {
  const { left, slots, queued, inRing } = run;
  const where = `the run at page ${run.page}, with ${listed} freed of ${slots} slots,`;
  check(inRing === isMember, `${where} is in a ring that is not its bin's`);
  if (isKept) {
    check(!inRing && !queued, `${where} is kept, and in use`);
    check(listed === slots && left === 0, `${where} is kept, but not empty`);
  } else if (inRing) {
    check(left === slots - listed, `${where} has ${left} left`);
    check(left > 0 || queued, `${where} is empty, and no event tells`);
  } else {
    check(left === 1 - listed, `${where} has ${left} left, in no ring`);
    // One that is full again may be waiting as well.
    check(queued || listed === 0, `${where} was not freed as it says`);
  }
}

function checkCounts({ field }: Raw, runs: readonly Run[]): void {
  const used = runs.reduce((sum, { pages }) => sum + pages, 0);
  check(field(LAYOUT.STATE_USED) === used, `${used} pages are used, not ${field(LAYOUT.STATE_USED)}`);
  check(field(LAYOUT.STATE_PEAK) >= used, "the peak is less than what is used");
}

/** All that is not free is in use, and nothing else. */
function checkLive(
  { runAt }: Raw,
  runs: readonly Run[],
  free: ReadonlySet<number>,
  live: ReadonlySet<number>,
): void {
  const used = runs;
  const byAddress = new Map(used.map((run) => [run.at, run]));
  for (const block of live) {
    const run = byAddress.get(runAt(Math.floor(block / PAGE)));
    check(run !== undefined, `${block} is in use, but in a page of no run`);
    check(isSlot(run, block), `${block} is in use, but no block starts there`);
    check(!free.has(block), `${block} is in use, and free`);
  }
  const blocks = used.reduce((sum, { slots }) => sum + slots, 0);
  check(
    blocks - free.size === live.size,
    `${live.size} blocks are in use, but ${blocks - free.size} are not free`,
  );
}

/** Whether a slot, or the one block of a large run, starts at an address. */
function isSlot({ start, size, slots }: Run, address: number): boolean {
  const offset = address - start;
  return offset >= 0 && offset % size === 0 && offset / size < slots;
}

function isZero(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.length; at += PAGE) {
    const part = bytes.subarray(at, at + PAGE);
    if (Buffer.compare(part, part.length === PAGE ? ZEROS : ZEROS.subarray(0, part.length)) !== 0)
      return false;
  }
  return true;
}

function check(holds: boolean, otherwise: string): asserts holds {
  if (!holds) throw new Error(`heap: ${otherwise}`);
}
