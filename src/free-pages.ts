// Which pages are free: a bit for each page from address 0, set where it is. The bits lie behind the page map's entries, as many
// as these, and are zero before the heap and behind it, where there is at least one:
//
//     | entries | bits, 64 to a word | grades, a byte for each of these words | 8 grades that end a search |
//
// So pages coalesce by themselves, and neither their neighbours nor what lies in them need be touched. The lowest that will do
// are taken. A word's grade is that of the longest series of free pages that begins there, or more: a search looks at
// eight of them at a time, and where one was too high it is lower afterwards.

import { state } from "./config";
import { copyMemory, fillMemory } from "./memory";

const WORD_BITS: u32 = 6;
/** Pages to a word of bits. A map has whole words. */
export const WORD_PAGES: u32 = 1 << WORD_BITS;
const IN_WORD: u32 = WORD_PAGES - 1;
const ALL: u64 = ~(<u64>0);

export const BEST: u32 = 127;
/** A grade of 1 in each of eight. */
const ONES: u64 = 0x0101010101010101;
/** So many of the best grades end a search. */
export const END_GRADES: u32 = sizeof<u64>();


@inline
function addressOfWord(word: u32): usize {
  return state().free + ((<usize>word) << 3);
}


@inline
function wordAt(page: u32): usize {
  return addressOfWord(page >>> WORD_BITS);
}

/** The grade of so many pages. */
@inline
export function gradeOf(pages: u32): u32 {
  return min<u32>(pages, BEST);
}


@inline
function setGrade(word: u32, grade: u32): void {
  store<u8>(state().grades + word, grade);
}

/** Gives a word a grade without a look at others. */
function rate(word: u32): void {
  const bits = load<u64>(addressOfWord(word));
  setGrade(word, <i64>bits < 0 ? BEST : <u32>popcnt<u64>(bits));
}

/** Sets the bits of pages, which are all the same, to `bits`, of which they are the opposite. */
function setBits(page: u32, pages: u32, bits: u64): void {
  let at = wordAt(page);
  let mask = ALL << page;
  let end = (page & IN_WORD) + pages;
  if (end > WORD_PAGES) {
    store<u64>(at, load<u64>(at) ^ mask);
    at += sizeof<u64>();
    mask = ALL;
    const between = (((end - 1) >>> WORD_BITS) << 3) - sizeof<u64>();
    if (between) {
      fillMemory(at, <u8>bits, between);
      at += between;
    }
  }
  store<u64>(at, load<u64>(at) ^ (mask & (ALL >>> -end)));
}

/** Makes pages free. */
export function addFree(page: u32, pages: u32): void {
  setBits(page, pages, ALL);
  rate((page - freeBefore(page)) >>> WORD_BITS);
}

/** Has pages no longer free, with which a series of free ones begins, or that `findAligned` found. */
export function takeFree(page: u32, pages: u32): void {
  const s = state();
  const behind = page + pages;
  setBits(page, pages, 0);
  s.fresh = max<u32>(s.fresh, behind);
  if ((behind ^ page) >>> WORD_BITS) rate(behind >>> WORD_BITS);
}

/** The first of the lowest free `pages` side by side; 0 if there are none. */
export function findFree(pages: u32): u32 {
  const s = state();
  // Sets the top bit of each grade that is as high.
  const difference = ONES * <u64>(BEST + 1 - gradeOf(pages));
  let at = s.grades;
  while (true) {
    for (let hits = (load<u64>(at) + difference) & (ONES << 7); hits; hits &= hits - 1) {
      const word = <u32>(at - s.grades) + ((<u32>ctz<u64>(hits)) >>> 3);
      if (word >= s.capacity >>> WORD_BITS) return 0;
      const page = findIn(word, pages);
      if (page) return page;
    }
    at += sizeof<u64>();
  }
}

/** The same at a multiple of `alignment` pages, a power of two. */
export function findAligned(pages: u32, alignment: u32): u32 {
  let page = (findFree(pages) + alignment - 1) & -alignment;
  for (; page && page < state().end; page += alignment) {
    if (freeFrom(page, pages) >= pages) {
      // For `takeFree`, as the series may begin before.
      rate(page >>> WORD_BITS);
      return page;
    }
  }
  return 0;
}

/** The first of the lowest free `pages` side by side that begin in a word. If there are none, 0, and the word's grade is exact. */
@inline
function findIn(word: u32, pages: u32): u32 {
  let bits = load<u64>(addressOfWord(word));
  let most: u32 = 0;
  while (bits) {
    const start = <u32>ctz<u64>(bits);
    const page = (word << WORD_BITS) + start;
    const length = freeFrom(page, pages);
    if (length >= pages) return page;
    most = max<u32>(most, length);
    // Carries from the series' first bit to behind its last.
    bits &= bits + ((<u64>1) << start);
  }
  setGrade(word, gradeOf(most));
  return 0;
}

/** How many free pages begin with a page; if they are `enough`, so many or more. */
export function freeFrom(page: u32, enough: u32): u32 {
  let at = wordAt(page);
  let some = <u32>ctz<u64>(~(load<u64>(at) >>> (page & IN_WORD)));
  let all = some;
  if (some == WORD_PAGES - (page & IN_WORD))
    do {
      at += sizeof<u64>();
      some = <u32>ctz<u64>(~load<u64>(at));
      all += some;
    } while (some == WORD_PAGES && all < enough);
  return all;
}

/** How many free pages end before a page. */
export function freeBefore(page: u32): u32 {
  --page;
  let at = wordAt(page);
  let some = <u32>clz<u64>(~(load<u64>(at) << (~page & IN_WORD)));
  let all = some;
  if (some == (page & IN_WORD) + 1)
    do {
      at -= sizeof<u64>();
      some = <u32>clz<u64>(~load<u64>(at));
      all += some;
    } while (some == WORD_PAGES);
  return all;
}


@inline
export function isFree(page: u32): bool {
  return !!((load<u64>(wordAt(page)) >>> page) & 1);
}

/** Bytes behind the entries of a map of `capacity` pages. */
@inline
export function freeBytes(capacity: u32): usize {
  return (capacity >>> 3) + (capacity >>> WORD_BITS) + END_GRADES;
}

/** Has what is known of free pages lie at another place, with room for more of them. */
export function moveFree(to: usize, capacity: u32): void {
  const s = state();
  const grades = to + (capacity >>> 3);
  fillMemory(to, 0, freeBytes(capacity));
  copyMemory(to, s.free, s.capacity >>> 3);
  copyMemory(grades, s.grades, s.capacity >>> WORD_BITS);
  fillMemory(grades + (capacity >>> WORD_BITS), <u8>BEST, END_GRADES);
  s.free = to;
  s.grades = grades;
}
