/**
 * Checks every invariant of a heap: walks the page map and all lists and rings in its memory, and compares them with each
 * other and with the blocks that should be in use. It takes the layout from lib/layout.json.
 */
import { readFileSync } from "node:fs";
import path from "node:path";
import type { Layout as InspectorLayout } from "../npm/inspect/layout.ts";
import { ROOT } from "../tools/command.ts";

interface Layout extends InspectorLayout {
  readonly LAST_PAGE: number;
  readonly SMALL_MAX: number;
  readonly BIN_OF: number;
  /** An i32 that is 0 while the lock is free. */
  readonly LOCK: number;
  readonly METADATA_PAGES: number;
  readonly BEST: number;
  readonly STATE_SMALL_END: number;
  readonly STATE_EVENTS: number;
  readonly STATE_FRESH: number;
  readonly STATE_USED: number;
  readonly RUN_NEXT: number;
  readonly RUN_PREV: number;
  readonly BIN_FIRST: number;
  readonly BIN_PAGES: number;
}

const read = (file: string): Layout => JSON.parse(readFileSync(path.join(ROOT, "lib", file), "utf8"));
export const LAYOUT = read("layout.json");
export const HARDENED_LAYOUT = read("layout-hardened.json");

export interface Expected {
  /** Addresses of all blocks in use. If missing, the blocks are not compared. */
  readonly live?: Iterable<number>;
  /** Ranges [from, to) outside the heap: everything below its base, and what others took by growing memory. */
  readonly foreign: readonly (readonly [number, number])[];
  /**
   * How many pages, and how many Runs, may have no owner that the checker knows; by default 0. In builds for threads
   * these are old page maps and caches.
   */
  readonly unknown?: number;
}

const PAGE = 2 ** LAYOUT.PAGE_BITS;
const { NONE, LARGE, FIRST_BIN, RUN_STEP, QUEUED } = LAYOUT;
/** Number of Runs in a metadata page, without the one that the page has for itself. */
const RUNS_PER_PAGE = PAGE / RUN_STEP - 1;
const BINS = LAYOUT.SLOT_SIZES.length;
const ZEROS = new Uint8Array(PAGE);

/** What a page of the heap is used for. "map" includes metadata pages. */
type Owner = "free" | "large" | "bin" | "map" | "foreign";

/** A Run to which the page map leads. */
interface Run {
  readonly at: number;
  readonly page: number;
  readonly pages: number;
  readonly kind: number;
  readonly start: number;
  readonly size: number;
  readonly slots: number;
  readonly free: number;
  /** Without QUEUED, which is added to the field while the run is on the list of events. */
  readonly left: number;
  readonly queued: boolean;
  readonly inRing: boolean;
}

/** Access to a heap's words and bytes. */
interface Raw {
  /** Whether the heap is that of a compact build. */
  readonly isCompact: boolean;
  readonly bytes: Uint8Array;
  readonly word: (address: number) => number;
  readonly field: (offset: number) => number;
  /** A field of a bin; bins are counted from 0. */
  readonly binField: (bin: number, offset: number) => number;
  /** Addresses of the Runs to which pages in no run, and metadata pages, point in the page map. */
  readonly noRun: number;
  readonly metadata: number;
  /** The address of a page's Run. */
  readonly runAt: (page: number) => number;
  readonly isFree: (page: number) => boolean;
}

/** Throws an Error that names the first invariant that does not hold. A heap that has not started passes. */
export function checkHeap(memory: ArrayBuffer, state: number, expected: Expected): void {
  const heap = open(memory, state);
  const { field } = heap;
  const live = expected.live && new Set(expected.live);
  if (field(LAYOUT.STATE_MAGIC) === 0) {
    check(!live?.size, "blocks should be in use, but the heap has not started");
    return;
  }
  check(field(LAYOUT.STATE_MAGIC) === LAYOUT.MAGIC, "the state has a wrong magic number");

  checkSizes(heap, state);
  checkMap(heap, memory.byteLength);
  const runs = readRuns(heap);
  checkEvents(heap, runs);
  const metadataPages = checkRecords(heap, runs, state, expected);
  checkOwners(heap, runs, metadataPages, expected);
  if (heap.isCompact) checkLowest(heap);
  else {
    checkGrades(heap);
    checkFresh(heap, runs);
  }
  const free = new Set(runs.filter(({ kind, queued }) => kind === LARGE && queued).map(({ start }) => start));
  checkSlots(heap, runs, state, free);
  checkCounts(heap, runs);
  if (live) checkLive(heap, runs, free, live);
}

function open(memory: ArrayBuffer, state: number): Raw {
  const bytes = new Uint8Array(memory);
  const words = new Uint32Array(memory);
  // Here and in loops over the page map, a message is made only where it is needed: that takes longer than the check.
  const word = (address: number): number =>
    words[address / 4] ?? fail(`${address} is not the address of a word in memory`);
  const field = (offset: number): number => word(state + offset);
  const [map, free] = [field(LAYOUT.STATE_MAP), field(LAYOUT.STATE_FREE)];
  return {
    isCompact: field(LAYOUT.STATE_GRADES) === 0,
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

/** Reads a Run's field `left`, which is signed. */
function leftOf({ word }: Raw, run: number): number {
  return word(run + LAYOUT.RUN_LEFT) | 0;
}

/** Checks each bin's slot size, and the table of the bins of small sizes. */
function checkSizes({ isCompact, field, binField }: Raw, state: number): void {
  for (const [bin, size] of LAYOUT.SLOT_SIZES.entries())
    check(binField(bin, LAYOUT.BIN_SIZE) === size, `bin ${bin} does not have slots of ${size} bytes`);
  check(
    field(LAYOUT.STATE_SMALL_END) === (isCompact ? 0 : LAYOUT.SMALL_MAX + 1),
    "`smallEnd` is not SMALL_MAX + 1, or in a compact heap 0",
  );
  // Of the compact builds, only those with thread caches have a table.
  if (isCompact && field(LAYOUT.BIN_OF) === 0) return;
  for (let size = 0; size <= LAYOUT.SMALL_MAX; size += 4) {
    const entry = field(LAYOUT.BIN_OF + size);
    const kind = FIRST_BIN + LAYOUT.SLOT_SIZES.findIndex((slot) => slot >= size);
    const inCache = entry / LAYOUT.CACHE_CELL;
    // With thread caches, no slots of 4 bytes are handed out: these sizes lead to the next bin.
    const isRight =
      entry === state + LAYOUT.BIN_TABLE + LAYOUT.BIN_STEP * kind ||
      inCache === kind ||
      (kind === FIRST_BIN && inCache === kind + 1);
    check(isRight, `the table of bins leads from ${size} bytes to a wrong bin`);
  }
}

function checkMap(heap: Raw, size: number): void {
  const { isCompact, field, word, noRun, metadata } = heap;
  const [map, capacity] = [field(LAYOUT.STATE_MAP), field(LAYOUT.STATE_CAPACITY)];
  const [start, end] = [field(LAYOUT.STATE_START), field(LAYOUT.STATE_END)];
  check(start < end, `the heap starts at page ${start}, but ends at page ${end}`);
  check(
    end <= LAYOUT.LAST_PAGE,
    `the heap ends at page ${end}, after the last page allowed, ${LAYOUT.LAST_PAGE}`,
  );
  check(end * PAGE <= size, "the heap ends after the end of memory");
  check(end < capacity, "the page map does not cover the heap");
  check(field(LAYOUT.STATE_FRESH) <= end, "the first fresh page lies after the heap's end");
  check(map % 4 === 0, "the page map is not aligned to 4 bytes");
  check(
    capacity % LAYOUT.WORD_PAGES === 0,
    "the page map's capacity is not a multiple of the pages in a word of the bitmap",
  );
  check(
    field(LAYOUT.STATE_FREE) === map + 4 * capacity,
    "the bitmap of free pages does not follow the map's entries",
  );
  check(
    isCompact || field(LAYOUT.STATE_GRADES) === map + 4 * capacity + capacity / 8,
    "the grades do not follow the bitmap",
  );
  check(map >= start * PAGE && mapEnd(heap) <= end * PAGE, "the page map is not inside the heap");
  for (let page = 0; page < capacity; page = page + 1 === start ? end : page + 1) {
    if (heap.runAt(page) !== noRun) fail(`page ${page}, outside the heap, is in a run`);
    if (heap.isFree(page)) fail(`page ${page}, outside the heap, counts as free`);
  }
  for (const [name, run] of Object.entries({ noRun, metadata })) {
    check(word(run + LAYOUT.RUN_KIND) === NONE, `the Run ${name} is not of kind NONE`);
    check(
      word(run + LAYOUT.RUN_START) === 0 && word(run + LAYOUT.RUN_SIZE) === 0,
      `the Run ${name} has a start or a size`,
    );
    check(word(run + LAYOUT.RUN_NEXT) === 0, `the Run ${name} is in a ring`);
  }
  for (const run of [noRun, metadata])
    check(leftOf(heap, run) === (isCompact ? 0 : 1), "an address was freed where no block starts");
}

/** The end of the page map, including the bitmap and the grades behind its entries. */
function mapEnd({ isCompact, field }: Raw): number {
  if (isCompact) return field(LAYOUT.STATE_FREE) + field(LAYOUT.STATE_CAPACITY) / 8;
  return field(LAYOUT.STATE_GRADES) + field(LAYOUT.STATE_CAPACITY) / LAYOUT.WORD_PAGES + LAYOUT.END_GRADES;
}

/**
 * Returns all runs, in the order of their pages. Checks that every page of a run with several slots leads to its Run,
 * and that in other runs only the first page does; the rest must lead to `noRun`.
 */
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
        `page ${inner}, in the run of kind ${kind} at page ${page}, leads to a wrong Run`,
      );
    }
    runs.push(run);
    page += pages;
  }
  return runs;
}

/** Reads and checks the run that begins at a page. */
function readRun(heap: Raw, page: number): Run {
  const { word, field } = heap;
  const at = heap.runAt(page);
  const shorts = word(at + LAYOUT.RUN_KIND);
  check(LAYOUT.RUN_SLOTS === LAYOUT.RUN_KIND + 2, "the layout has changed: `slots` no longer follows `kind`");
  const [kind, slots] = [shorts & 0xffff, shorts >>> 16];
  const [start, size] = [word(at + LAYOUT.RUN_START), word(at + LAYOUT.RUN_SIZE)];
  const pages = Math.ceil((slots * size) / PAGE);
  const where = `the run at page ${page}`;
  check(start === page * PAGE, `${where} has the start address ${start}`);
  check(kind > NONE && kind < FIRST_BIN + BINS, `${where} has the kind ${kind}`);
  check(
    pages > 0 && page + pages <= field(LAYOUT.STATE_END),
    `${where} has ${pages} pages, which do not fit in the heap`,
  );
  if (kind < FIRST_BIN)
    check(slots === 1 && size % PAGE === 0, `${where}, a large block, has ${slots} slots of ${size} bytes`);
  else {
    const bytes = LAYOUT.SLOT_SIZES[kind - FIRST_BIN];
    check(size === bytes, `${where}, of bin ${kind - FIRST_BIN}, has slots of ${size} bytes, not ${bytes}`);
  }
  const left = leftOf(heap, at);
  // While the run is on the list of events, QUEUED is added to `left`; further frees then take off less than half of it.
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

/** Checks that exactly those runs are on the list of events whose `left` says so. */
function checkEvents({ field, word }: Raw, runs: readonly Run[]): void {
  const queued = new Map(runs.filter((run) => run.queued).map((run) => [run.at, run]));
  for (let at = field(LAYOUT.STATE_EVENTS); at !== 0; at = word(at + LAYOUT.RUN_EVENT)) {
    const run = queued.get(at);
    check(run !== undefined, `the Run at ${at} is on the list of events, but its \`left\` does not say so`);
    if (run.kind === LARGE) {
      check(run.left === 0, `the block at page ${run.page} was freed more than once`);
      check(run.free === run.start, `${run.free} was freed, but the large block starts at ${run.start}`);
    }
    queued.delete(at);
  }
  for (const { page } of queued.values())
    check(false, `the run at page ${page} is not on the list of events, but its \`left\` says that it is`);
}

/**
 * Checks that each Run lies in a metadata page and is either in use or on its page's list of spare Runs, and that none is
 * lost. Returns the addresses of the metadata pages.
 */
function checkRecords(heap: Raw, runs: readonly Run[], state: number, { unknown = 0 }: Expected): number[] {
  const { field, word } = heap;
  const used = new Set(runs.map(({ at }) => at));
  check(used.size === runs.length, "two page runs have the same Run");

  const metadataPages: number[] = [];
  for (let page = field(LAYOUT.STATE_START); page < field(LAYOUT.STATE_END); ++page)
    if (heap.runAt(page) === heap.metadata) metadataPages.push(page * PAGE);
  const ringed = new Map<number, number>();
  let lost = 0;
  for (const header of metadataPages) {
    const spares = new Set<number>();
    for (let at = word(header + LAYOUT.RUN_FREE); at !== header + PAGE;) {
      const isRun = at > header && at < header + PAGE && at % RUN_STEP === 0;
      check(isRun, `the list of spare Runs of the metadata page at ${header} leads to ${at}, outside it`);
      check(
        !used.has(at) && !spares.has(at),
        `the spare Run at ${at} is also in use, or is on the list twice`,
      );
      spares.add(at);
      at = (at + RUN_STEP + word(at + LAYOUT.RUN_EVENT)) >>> 0;
    }
    const count = leftOf(heap, header);
    check(
      count === RUNS_PER_PAGE - spares.size,
      `the metadata page at ${header} counts ${count} Runs in use, not ${RUNS_PER_PAGE - spares.size}`,
    );
    lost += count;
    for (let at = header + RUN_STEP; at < header + PAGE; at += RUN_STEP) if (used.delete(at)) lost -= 1;
    if (spares.size > 0) ringed.set(header, header);
    else
      check(
        word(header + LAYOUT.RUN_NEXT) === 0,
        `the metadata page at ${header} has no spare Run, but is in a ring`,
      );
  }
  // One Run is counted as in use although it is not, so that the first metadata page is never freed.
  check(lost <= 1 + unknown, `${lost - 1} Runs are lost`);
  check(used.size === 0, `the Runs at ${[...used].join(", ")} are in no metadata page`);
  const ring = readRing(
    heap,
    state + LAYOUT.METADATA_PAGES - LAYOUT.RUN_NEXT,
    ringed,
    "the ring of metadata pages",
  );
  check(ring.length === ringed.size, "a metadata page with spare Runs is not in the ring");
  return metadataPages;
}

/** Checks that each page of the heap has exactly one owner: a run, the map, metadata, others, or the free pages. */
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
      if (before !== undefined && !shared) fail(`page ${page} is both ${before} and ${owner}`);
      owners[page - start] = owner;
    }
  };
  // The first page map may begin in a page that also holds the program's data; ranges of others may share pages too.
  for (const [from, to] of foreign) own(Math.floor(from / PAGE), Math.ceil(to / PAGE), "foreign", true);
  const map = field(LAYOUT.STATE_MAP);
  own(Math.floor(map / PAGE), Math.ceil(map / PAGE), "map", true);
  own(Math.ceil(map / PAGE), Math.ceil(mapEnd(heap) / PAGE), "map");
  for (const header of metadataPages) own(header / PAGE, header / PAGE + 1, "map");
  for (const { page, pages, kind } of runs) own(page, page + pages, kind === LARGE ? "large" : "bin");
  for (let page = start; page < start + owners.length; ++page) if (isFree(page)) own(page, page + 1, "free");
  const lost = owners.flatMap((owner, index) => (owner === undefined ? [start + index] : []));
  check(lost.length <= unknown, `${lost.length} pages have no owner, page ${lost[0]} being the first`);
}

/** Checks the links of the ring whose head is at `ring`, and returns its members. `all` has what may be in it, by address. */
function readRing<T>({ word }: Raw, ring: number, all: ReadonlyMap<number, T>, name: string): T[] {
  const members: T[] = [];
  for (let at = ring; ;) {
    const next = word(at + LAYOUT.RUN_NEXT);
    check(
      word(next + LAYOUT.RUN_PREV) === at,
      `in ${name}, ${next} follows ${at}, but does not link back to it`,
    );
    if (next === ring) return members;
    const member = all.get(next);
    check(member !== undefined, `${next} is in ${name}, but does not belong there`);
    check(members.length < all.size, `${name} does not lead back to its head`);
    members.push(member);
    at = next;
  }
}

/** Checks that no grade is too low for the free pages that begin in its word, and that the last grades end a search. */
function checkGrades({ bytes, field, isFree }: Raw): void {
  const { WORD_PAGES, END_GRADES, BEST } = LAYOUT;
  const [grades, capacity] = [field(LAYOUT.STATE_GRADES), field(LAYOUT.STATE_CAPACITY)];
  for (let page = 0; page < capacity; ++page) {
    const first = page;
    while (isFree(page)) page += 1;
    const grade = bytes[grades + Math.floor(first / WORD_PAGES)]!;
    if (grade < Math.min(page - first, BEST))
      fail(`${page - first} free pages begin at page ${first}, but its word has only grade ${grade}`);
  }
  for (const grade of bytes.subarray(grades + capacity / WORD_PAGES).subarray(0, END_GRADES))
    check(grade === BEST, "a grade after the last word would not end a search");
}

/** Checks that no page is free before the one from which on a compact build searches. */
function checkLowest({ field, isFree }: Raw): void {
  for (let page = field(LAYOUT.STATE_START); page < field(LAYOUT.STATE_FRESH); ++page)
    if (isFree(page)) fail(`page ${page} is free, but no search looks so low`);
}

/** Checks that free pages that were never handed out are zero: `calloc` relies on it. */
function checkFresh({ bytes, field, isFree }: Raw, runs: readonly Run[]): void {
  const fresh = field(LAYOUT.STATE_FRESH);
  for (const { page, pages } of runs)
    check(page + pages <= fresh, `page ${page + pages - 1} is in a run, but counts as never handed out`);
  for (let page = fresh; page < field(LAYOUT.STATE_END); ++page) {
    if (isFree(page) && Buffer.compare(bytes.subarray(page * PAGE, (page + 1) * PAGE), ZEROS) !== 0)
      fail(`page ${page}, which counts as never handed out, is not zero`);
  }
}

/** Checks each bin, and its runs with their lists of freed slots. Adds the free slots to `free`. */
function checkSlots(heap: Raw, runs: readonly Run[], state: number, free: Set<number>): void {
  const { isCompact, binField } = heap;
  for (let bin = 0; bin < BINS; ++bin) {
    const own = new Map(runs.filter(({ kind }) => kind === FIRST_BIN + bin).map((run) => [run.at, run]));
    const name = `bin ${bin}`;
    const pages = [...own.values()].reduce((sum, run) => sum + run.pages, 0);
    check(
      isCompact || binField(bin, LAYOUT.BIN_PAGES) === pages,
      `${name} has ${pages} pages, but counts ${binField(bin, LAYOUT.BIN_PAGES)}`,
    );
    const place = state + LAYOUT.BIN_TABLE + LAYOUT.BIN_STEP * (FIRST_BIN + bin);
    const ring = new Set(readRing(heap, place, own, `the ring of ${name}`));
    check(heap.word(place + LAYOUT.RUN_FREE) === 0, `the head of the ring of ${name} has a freed slot`);

    const [fresh, freshEnd] = [binField(bin, LAYOUT.BIN_FRESH), binField(bin, LAYOUT.BIN_FRESH_END)];
    const freshRun = [...own.values()].find(
      ({ start, size, slots }) => freshEnd === start + slots * size && fresh >= start,
    );
    check(
      fresh === freshEnd || freshRun !== undefined,
      `${name} has never-used slots that are not the last ones of any of its runs`,
    );
    for (const run of own.values()) {
      const listed = addListed(heap, run, free);
      for (let slot = fresh; run === freshRun && slot < freshEnd; slot += run.size) addSlot(run, slot, free);
      if (isCompact) checkTaken(run, listed, ring);
      else checkLeft(run, listed, ring.has(run));
      // `malloc` takes slots only from the first run of the ring, so only that one may have none left.
      const [first] = ring;
      check(
        !ring.has(run) || run === first || listed > 0,
        `the run at page ${run.page} is in the ring, but has no freed slot`,
      );
    }
  }
}

/** Adds the slots on a run's list of freed slots to `free`. Returns their number. */
function addListed({ word }: Raw, run: Run, free: Set<number>): number {
  let listed = 0;
  for (let slot = run.free; slot !== 0; slot = word(slot), ++listed) addSlot(run, slot, free);
  return listed;
}

function addSlot(run: Run, slot: number, free: Set<number>): void {
  check(isSlot(run, slot), `${slot} is a free slot of the run at page ${run.page}, but no slot starts there`);
  check(!free.has(slot), `the slot at ${slot} is free twice`);
  free.add(slot);
}

/** Checks a run's count of frees until its next event, and that it is in its bin's ring or on the list of events. */
function checkLeft(run: Run, listed: number, isMember: boolean): void {
  const { left, slots, queued, inRing } = run;
  const where = `the run at page ${run.page}, with ${listed} freed of ${slots} slots,`;
  check(inRing === isMember, `${where} is linked into a ring, but not its bin's, or the reverse`);
  if (inRing) {
    check(left === slots - listed, `${where} is in the ring, but has ${left} frees left until an event`);
    check(left > 0 || queued, `${where} is empty, but not on the list of events`);
  } else {
    check(left === 1 - listed, `${where} is in no ring, but has ${left} frees left until an event`);
    // A run that became full again may still be on the list of events.
    check(
      queued || listed === 0,
      `${where} has freed slots, but is in no ring and not on the list of events`,
    );
  }
}

/** Checks a run of a compact heap: its count of slots taken, and that it is in its bin's ring if some are not. */
function checkTaken(run: Run, listed: number, ring: ReadonlySet<Run>): void {
  const { left, slots, inRing } = run;
  const where = `the run at page ${run.page}, with ${listed} freed of ${slots} slots,`;
  check(left === slots - listed, `${where} counts ${left} as taken`);
  check(inRing === ring.has(run), `${where} is linked into a ring, but not its bin's, or the reverse`);
  check(inRing === listed > 0, `${where} is ${inRing ? "" : "not "}in its bin's ring`);
  check(left > 0 || run === [...ring][0], `${where} is empty, but not the first of its bin's ring`);
}

function checkCounts({ field }: Raw, runs: readonly Run[]): void {
  const used = runs.reduce((sum, { pages }) => sum + pages, 0);
  check(
    field(LAYOUT.STATE_USED) === used,
    `${used} pages are in runs, but ${field(LAYOUT.STATE_USED)} are counted`,
  );
  check(field(LAYOUT.STATE_PEAK) >= used, "the peak is lower than the number of pages in use");
}

/** Checks that the blocks in `live` are exactly the slots and large blocks that are not free. */
function checkLive(
  { runAt }: Raw,
  runs: readonly Run[],
  free: ReadonlySet<number>,
  live: ReadonlySet<number>,
): void {
  const byAddress = new Map(runs.map((run) => [run.at, run]));
  for (const block of live) {
    const run = byAddress.get(runAt(Math.floor(block / PAGE)));
    check(run !== undefined, `the block at ${block} should be in use, but its page is in no run`);
    check(isSlot(run, block), `the block at ${block} should be in use, but no block starts there`);
    check(!free.has(block), `the block at ${block} should be in use, but is free`);
  }
  const blocks = runs.reduce((sum, { slots }) => sum + slots, 0);
  check(
    blocks - free.size === live.size,
    `${live.size} blocks should be in use, but ${blocks - free.size} are`,
  );
}

/** Whether one of a run's slots, or its large block, starts at an address. */
function isSlot({ start, size, slots }: Run, address: number): boolean {
  const offset = address - start;
  return offset >= 0 && offset % size === 0 && offset / size < slots;
}

function check(holds: boolean, otherwise: string): asserts holds {
  if (!holds) fail(otherwise);
}

function fail(what: string): never {
  throw new Error(`heap: ${what}`);
}
