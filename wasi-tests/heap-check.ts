/**
 * Checks every invariant of a heap: walks the page map and all lists in its memory and compares them with each other,
 * and with the blocks that should be in use. What it knows of the layout comes from lib/layout.json.
 */
import { readFileSync } from "node:fs";
import path from "node:path";
import type { Layout as InspectorLayout } from "../npm/inspect/layout.ts";
import { ROOT } from "../tools/command.ts";

interface Layout extends InspectorLayout {
  readonly LAST_PAGE: number;
  readonly RUN_LISTS: number;
  readonly PARTIAL: number;
  readonly RUNS: number;
  readonly STATE_RUN_BITS: number;
  readonly STATE_FRESH: number;
  readonly INFO_NEXT: number;
  readonly INFO_PREV: number;
  /** By list of free runs: pages of the shortest run in it. */
  readonly RUN_MINIMA: readonly number[];
}

export const LAYOUT: Layout = JSON.parse(readFileSync(path.join(ROOT, "lib", "layout.json"), "utf8"));

export interface Expected {
  /** Addresses of the blocks in use, if they are to be compared. */
  readonly live?: Iterable<number>;
  /** Memory that is not the heap's, as [from, to): all below its base, and what others took by growing memory. */
  readonly foreign: readonly (readonly [number, number])[];
  /** How many pages may be nobody's, 0 by default: where there are threads, old maps and caches are. */
  readonly unknown?: number;
}

const PAGE = 2 ** LAYOUT.PAGE_BITS;
const REGION = 2 ** LAYOUT.REGION_BITS;
const { NONE, FREE, LARGE, FIRST_BIN } = LAYOUT;
const BINS = LAYOUT.SLOT_SIZES.length;
const ZEROS = new Uint8Array(PAGE);

/** What serves a page of the heap. */
type Owner = "free" | "large" | "bin" | "map" | "foreign";

interface Run {
  readonly page: number;
  readonly pages: number;
  readonly kind: number;
}

/** A heap's words and bytes, by their names. */
interface Raw {
  readonly bytes: Uint8Array;
  readonly word: (address: number) => number;
  readonly field: (offset: number) => number;
  readonly info: (page: number, offset: number) => number;
  readonly kindOf: (page: number) => number;
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
  if (field(LAYOUT.STATE_KINDS) === 0) return;

  checkMap(heap, memory.byteLength);
  const runs = readRuns(heap);
  checkOwners(heap, runs, expected);
  checkFreeRuns(heap, runs);
  checkFresh(heap, runs);
  const free = new Set<number>();
  checkWaiting(heap, runs, free);
  checkSlots(heap, runs, free);
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
  const kinds = field(LAYOUT.STATE_KINDS);
  const info = (page: number, offset: number): number => {
    check(
      page >= field(LAYOUT.STATE_START) && page < field(LAYOUT.STATE_END),
      `page ${page} is not in the heap`,
    );
    const infos = infosOf(word, kinds, Math.floor(page / REGION));
    check(infos > 0, `page ${page} is in a region without infos`);
    return word(infos + (page % REGION) * LAYOUT.INFO_SIZE + offset);
  };
  return { bytes, word, field, info, kindOf: (page) => bytes[kinds + page]! };
}

/** The address of a region's infos, from the directory before the kinds; 0 for a region that the heap does not reach. */
function infosOf(word: Raw["word"], kinds: number, region: number): number {
  return word(kinds - 4 * (region + 1));
}

/** What the heap keeps for itself, from one address to another: the map with its directory, each region's infos. */
function ownRanges({ field, word }: Raw): [number, number][] {
  const [kinds, capacity] = [field(LAYOUT.STATE_KINDS), field(LAYOUT.STATE_CAPACITY)];
  const regions = capacity / REGION;
  const infos = Array.from({ length: regions }, (_, region) => infosOf(word, kinds, region)).filter(Boolean);
  return [
    [kinds - 4 * regions, kinds + capacity],
    ...infos.map((at): [number, number] => [at, at + REGION * LAYOUT.INFO_SIZE]),
  ];
}

function checkMap(heap: Raw, size: number): void {
  const { field, bytes } = heap;
  const [kinds, capacity] = [field(LAYOUT.STATE_KINDS), field(LAYOUT.STATE_CAPACITY)];
  const [start, end] = [field(LAYOUT.STATE_START), field(LAYOUT.STATE_END)];
  check(start < end, `the heap from page ${start} to ${end} is empty`);
  check(end <= LAYOUT.LAST_PAGE, `the heap goes on to page ${end}`);
  check(end * PAGE <= size, "the heap ends behind the memory");
  check(end < capacity, "the map is smaller than the heap");
  check(field(LAYOUT.STATE_FRESH) <= end, "pages behind the heap were handed out");
  check(capacity % REGION === 0 && kinds % 4 === 0, "the map is not aligned");
  for (const [from, to] of ownRanges(heap)) {
    check(from >= start * PAGE && to <= end * PAGE, "the map or infos are not in the heap");
  }
  check(isZero(bytes.subarray(kinds, kinds + start)), "a page before the heap has a kind");
  check(isZero(bytes.subarray(kinds + end, kinds + capacity)), "a page behind the heap has a kind");
}

/** The runs of every kind, in order, each as its kind wants it. */
function readRuns({ field, info, kindOf }: Raw): Run[] {
  const runs: Run[] = [];
  const end = field(LAYOUT.STATE_END);
  for (let page = field(LAYOUT.STATE_START); page < end;) {
    const kind = kindOf(page);
    if (kind === NONE) {
      page += 1;
      continue;
    }
    check(kind < FIRST_BIN + BINS, `page ${page} has kind ${kind}`);
    const pages = kind < FIRST_BIN ? info(page, LAYOUT.INFO_PAGES) : LAYOUT.RUN_PAGES[kind - FIRST_BIN]!;
    check(pages > 0 && page + pages <= end, `the run at page ${page} has ${pages} pages`);
    const last = page + pages - 1;
    if (kind === FREE) {
      check(kindOf(last) === FREE, `the free run at page ${page} has no end`);
      check(info(last, LAYOUT.INFO_PAGES) === pages, `the free run at page ${page} has two lengths`);
    }
    for (let inner = page + 1; inner <= last; ++inner) {
      if (kind === FREE && inner === last) continue;
      const wanted = kind < FIRST_BIN ? NONE : kind;
      check(kindOf(inner) === wanted, `page ${inner}, in the run at ${page}, has kind ${kindOf(inner)}`);
      if (kind >= FIRST_BIN) {
        check((info(inner, LAYOUT.INFO_FREE) | 0) === page - inner, `page ${inner} points to the wrong run`);
      }
    }
    runs.push({ page, pages, kind });
    page += pages;
  }
  return runs;
}

/** Each page of the heap has one owner, and none is lost. */
function checkOwners(heap: Raw, runs: readonly Run[], { foreign, unknown = 0 }: Expected): void {
  const start = heap.field(LAYOUT.STATE_START);
  const owners: (Owner | undefined)[] = Array.from({ length: heap.field(LAYOUT.STATE_END) - start });
  const own = (from: number, to: number, owner: Owner, shared = false): void => {
    for (let page = Math.max(from, start); page < Math.min(to, start + owners.length); ++page) {
      const before = owners[page - start];
      check(before === undefined || shared, `page ${page} is both ${before} and ${owner}`);
      owners[page - start] = owner;
    }
  };
  // The map may share its first page with the program's data, as data may share pages with each other.
  for (const [from, to] of foreign) own(Math.floor(from / PAGE), Math.ceil(to / PAGE), "foreign", true);
  for (const [from, to] of ownRanges(heap)) {
    const first = Math.floor(from / PAGE);
    own(first, first + 1, "map", from % PAGE !== 0);
    own(first + 1, Math.ceil(to / PAGE), "map");
  }
  for (const { page, pages, kind } of runs) {
    own(page, page + pages, kind === FREE ? "free" : kind === LARGE ? "large" : "bin");
  }
  const { word, field } = heap;
  for (const [index, owner] of owners.entries()) {
    const region = Math.floor((start + index) / REGION);
    const infos = infosOf(word, field(LAYOUT.STATE_KINDS), region);
    check(owner === "foreign" || infos > 0, `page ${start + index} is in a region without infos`);
  }
  const lost = owners.flatMap((owner, index) => (owner === undefined ? [start + index] : []));
  check(lost.length <= unknown, `page ${lost[0]} is lost`);
}

function checkFreeRuns(heap: Raw, runs: readonly Run[]): void {
  const free = new Map(runs.filter(({ kind }) => kind === FREE).map(({ page, pages }) => [page, pages]));
  for (const [page, pages] of free)
    check(!free.has(page + pages), `two free runs meet at page ${page + pages}`);
  const bits =
    BigInt(heap.field(LAYOUT.STATE_RUN_BITS)) | (BigInt(heap.field(LAYOUT.STATE_RUN_BITS + 4)) << 32n);
  let listed = 0;
  for (let list = 0; list < LAYOUT.RUN_LISTS; ++list) {
    const members = readPageList(heap, LAYOUT.RUNS + 4 * list, free.size);
    const bit = (bits >> BigInt(list)) & 1n;
    check(bit === (members.length > 0 ? 1n : 0n), `the bit of run list ${list} is ${bit}`);
    for (const page of members) {
      const pages = free.get(page);
      check(pages !== undefined, `page ${page} of run list ${list} is no free run`);
      const limit = LAYOUT.RUN_MINIMA[list + 1] ?? Infinity;
      check(pages >= LAYOUT.RUN_MINIMA[list]! && pages < limit, `${pages} pages are in run list ${list}`);
    }
    listed += members.length;
  }
  check(listed === free.size, `${free.size} free runs, but ${listed} are in lists`);
}

/** The members of a doubly linked list of pages: at most `limit`, or it has a cycle. */
function readPageList({ field, info }: Raw, list: number, limit: number): number[] {
  const members: number[] = [];
  let before = 0;
  for (let page = field(list); page !== 0; page = info(page, LAYOUT.INFO_NEXT)) {
    check(info(page, LAYOUT.INFO_PREV) === before, `page ${page} has a wrong neighbour in its list`);
    check(members.length < limit, `a list of pages has a cycle, or pages that it should not have`);
    members.push(page);
    before = page;
  }
  return members;
}

/** Free pages that were never handed out are zero: `calloc` relies on it. */
function checkFresh({ bytes, field }: Raw, runs: readonly Run[]): void {
  const fresh = field(LAYOUT.STATE_FRESH);
  for (const { page, pages, kind } of runs) {
    if (kind !== FREE) {
      check(page + pages <= fresh, `page ${page + pages - 1} is handed out, and fresh`);
      continue;
    }
    for (let each = Math.max(page, fresh); each < page + pages; ++each) {
      check(isZero(bytes.subarray(each * PAGE, (each + 1) * PAGE)), `the fresh page ${each} is not zero`);
    }
  }
}

/** Large blocks that were freed wait in a list; wrong pointers would, too. Adds them to `free`. */
function checkWaiting({ field, word }: Raw, runs: readonly Run[], free: Set<number>): void {
  check(field(LAYOUT.LISTS + 4 * NONE) === 0, "an address was freed that is no block's");
  check(field(LAYOUT.LISTS + 4 * FREE) === 0, "a block was freed twice");
  const large = new Set(runs.filter(({ kind }) => kind === LARGE).map(({ page }) => page * PAGE));
  for (let block = field(LAYOUT.LISTS + 4 * LARGE); block !== 0; block = word(block)) {
    check(large.has(block), `${block} waits to be freed, but is no large block`);
    check(!free.has(block), `${block} waits to be freed twice`);
    free.add(block);
  }
}

/** Each bin's list and the lists of its runs. Adds their slots to `free`. */
function checkSlots(heap: Raw, runs: readonly Run[], free: Set<number>): void {
  const { field, info, word, kindOf } = heap;
  const addSlot = (slot: number, bin: number, run: number | undefined): void => {
    let page = Math.floor(slot / PAGE);
    check(
      kindOf(page) === FIRST_BIN + bin,
      `the free slot ${slot} of bin ${bin} is in a page of another kind`,
    );
    page += Math.min(info(page, LAYOUT.INFO_FREE) | 0, 0);
    check(run === undefined || page === run, `the slot ${slot} is in the list of another run`);
    check(isSlot(slot, page, bin), `${slot} is in the lists of bin ${bin}, but is no slot`);
    check(!free.has(slot), `the slot ${slot} is free twice`);
    free.add(slot);
  };
  for (let bin = 0; bin < BINS; ++bin) {
    for (let slot = field(LAYOUT.LISTS + 4 * (FIRST_BIN + bin)); slot !== 0; slot = word(slot)) {
      addSlot(slot, bin, undefined);
    }
    const own = runs.filter(({ kind }) => kind === FIRST_BIN + bin).map(({ page }) => page);
    const partial = readPageList(heap, LAYOUT.PARTIAL + 4 * (FIRST_BIN + bin), own.length);
    const slots = slotsOf(bin);
    for (const page of own) {
      const counts = info(page, LAYOUT.INFO_FREE);
      const [count, fresh] = [counts % LAYOUT.FRESH, Math.floor(counts / LAYOUT.FRESH)];
      const where = `the run at page ${page}`;
      check(
        fresh <= count && count < slots,
        `${where} has ${fresh} fresh of ${count} free of ${slots} slots`,
      );
      check(partial.includes(page) === count > 0, `${where} has ${count} free slots, in or out of a list`);
      let found = fresh;
      for (let slot = info(page, LAYOUT.INFO_PAGES); slot !== 0; slot = word(slot), ++found) {
        addSlot(slot, bin, page);
      }
      check(found === count, `${where} has ${found} free slots, not ${count}`);
      for (let index = slots - fresh; index < slots; ++index) {
        addSlot(page * PAGE + index * LAYOUT.SLOT_SIZES[bin]!, bin, page);
      }
    }
    for (const page of partial) check(own.includes(page), `page ${page} is no run of bin ${bin}`);
  }
}

function checkCounts({ field }: Raw, runs: readonly Run[]): void {
  const used = runs.filter(({ kind }) => kind !== FREE).reduce((sum, { pages }) => sum + pages, 0);
  check(field(LAYOUT.STATE_USED) === used, `${used} pages are used, not ${field(LAYOUT.STATE_USED)}`);
  check(field(LAYOUT.STATE_PEAK) >= used, "the peak is less than what is used");
}

/** All that is not free is in use, and nothing else. */
function checkLive(
  { kindOf, info }: Raw,
  runs: readonly Run[],
  free: ReadonlySet<number>,
  live: ReadonlySet<number>,
): void {
  for (const block of live) {
    let page = Math.floor(block / PAGE);
    const kind = kindOf(page);
    check(kind >= LARGE, `${block} is in use, but in a page of kind ${kind}`);
    if (kind === LARGE) check(block === page * PAGE, `${block} is in use, but no large block starts there`);
    else {
      page += Math.min(info(page, LAYOUT.INFO_FREE) | 0, 0);
      check(isSlot(block, page, kind - FIRST_BIN), `${block} is in use, but is no slot`);
    }
    check(!free.has(block), `${block} is in use, and free`);
  }
  const used = runs.filter(({ kind }) => kind !== FREE);
  const blocks = used.reduce((sum, { kind }) => sum + (kind === LARGE ? 1 : slotsOf(kind - FIRST_BIN)), 0);
  check(
    blocks - free.size === live.size,
    `${live.size} blocks are in use, but ${blocks - free.size} are not free`,
  );
}

function slotsOf(bin: number): number {
  return Math.floor((LAYOUT.RUN_PAGES[bin]! * PAGE) / LAYOUT.SLOT_SIZES[bin]!);
}

function isSlot(address: number, page: number, bin: number): boolean {
  const offset = address - page * PAGE;
  const size = LAYOUT.SLOT_SIZES[bin]!;
  return offset % size === 0 && offset / size < slotsOf(bin);
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
