// Which pages are free: a bit for each page from address 0, set if the page is free. The bits follow the page map's
// entries, one for each, and each word of 64 bits has a grade:
//
//     | entries | bits, 64 to a word | grades, a byte for each of these words | 8 grades that end a search |
//
// Bits outside the heap are zero. Page 0 is never free, and there is at least one bit past its end, so every series of
// free pages ends at a zero bit. Free pages coalesce by themselves: neither their neighbours nor their contents are
// touched.
//
// Allocation is first fit: it takes the lowest series that is long enough. A word's grade is an upper bound of the
// length, up to BEST, of the longest series of free pages that begins in the word. A search compares eight grades at a
// time, and lowers those that prove too high.
//
// Which words and pages are free is hard to foresee, for a processor too: a branch that depends on it costs as much as
// twenty other instructions. So the functions below compute with all bits of a word at once, as far as possible.
//
// In a compact build there are no grades, and a search looks at the bits from the lowest free page on.

import { COMPACT, state } from "./config";
import { copyMemory, fillMemory } from "./memory";

const WORD_BITS: u32 = 6;
/** Pages per word of bits. The capacity of a map is a multiple of it. */
export const WORD_PAGES: u32 = 1 << WORD_BITS;
const IN_WORD: u32 = WORD_PAGES - 1;
const ALL: u64 = ~(<u64>0);

/** The highest grade: that many pages or more. It leaves the top bit of the byte clear, which `findFree` needs. */
export const BEST: u32 = 127;
/** Eight grades of 1. */
const ONES: u64 = 0x0101010101010101;
/** log2 of how many grades a search compares at a time. */
const GROUP_BITS: u32 = 3;
/** How many grades of BEST follow those of the words, as a sentinel. */
export const END_GRADES: u32 = 1 << GROUP_BITS;


@inline
function addressOfWord(word: u32): usize {
  return state().free + ((<usize>word) << 3);
}


@inline
function wordAt(page: u32): usize {
  return addressOfWord(page >>> WORD_BITS);
}

/** Returns the grade of a series of `pages` free pages. */
@inline
function gradeOf(pages: u32): u32 {
  return min<u32>(pages, BEST);
}


@inline
function setGrade(word: u32, grade: u32): void {
  store<u8>(state().grades + word, grade);
}


@inline
function gradeOfWord(word: u32): u32 {
  return load<u8>(state().grades + word);
}

/** Returns a grade for a word whose bits are `bits`: BEST if its last series may go on in the next word. */
@inline
function boundOf(bits: u64): u32 {
  return <i64>bits < 0 ? BEST : <u32>popcnt<u64>(bits);
}


@inline
function rate(word: u32, bits: u64): void {
  setGrade(word, boundOf(bits));
}

/** `rate`, not inlined. */
function rateWord(word: u32): void {
  if (!COMPACT) rate(word, load<u64>(addressOfWord(word)));
}

/**
 * Flips the bits of the pages from `page`, whose word is at `at`, to `end`, whose word is at `last`. Returns the bits of
 * the one or the other. Without a branch unless there are words between them, and without a load that waits for a store.
 */
@inline
function flip(at: usize, page: u32, last: usize, end: u32, returnsLast: bool): u64 {
  const isOne = at == last;
  const fromEnd = ALL << end;
  const first = load<u64>(at) ^ (ALL << page) ^ (isOne ? fromEnd : 0);
  const bits = isOne ? first : load<u64>(last) ^ ~fromEnd;
  store<u64>(at, first);
  store<u64>(last, bits);
  while ((at += sizeof<u64>()) < last) store<u64>(at, ~load<u64>(at));
  return returnsLast ? bits : first;
}

/** `flip`, not inlined, in as little code as possible. */
function flipWords(page: u32, end: u32): void {
  const last = wordAt(end);
  let at = wordAt(page);
  store<u64>(at, load<u64>(at) ^ (ALL << page));
  while (at < last) {
    at += sizeof<u64>();
    store<u64>(at, ~load<u64>(at));
  }
  store<u64>(at, load<u64>(at) ^ (ALL << end));
}

/** Notes that the pages before `end` are no longer fresh. */
@inline
function raiseFresh(end: u32): void {
  const s = state();
  if (!COMPACT && end > s.fresh) s.fresh = end;
}

/** Marks pages as free. */
export function addFree(page: u32, pages: u32): void {
  flipWords(page, page + pages);
  if (!COMPACT) rateWord((page - freeBefore(page)) >>> WORD_BITS);
  else if (page < state().fresh) state().fresh = page;
}

/** `addFree`, inlined: for where a call would cost too much. */
@inline
export function addFreeInline(page: u32, pages: u32): void {
  if (COMPACT) {
    addFree(page, pages);
    return;
  }
  const at = wordAt(page);
  const bits = flip(at, page, wordAt(page + pages), page + pages, false);
  // Are all pages of this word free up to here? Then the series may begin in an earlier one.
  if ((bits | (ALL << page)) != ALL) rate(page >>> WORD_BITS, bits);
  else rateWord((page - freeBefore(page)) >>> WORD_BITS);
}

/**
 * Marks pages as no longer free. They must be the first of a series, or have been found by `findFree`: only then is
 * the grade of their word high enough for what is left of the series there. A later word gets a new one.
 */
export function takeFree(page: u32, pages: u32): void {
  const end = page + pages;
  raiseFresh(end);
  flipWords(page, end);
  rateWord(end >>> WORD_BITS);
}

/** `takeFree`, inlined. */
@inline
export function takeFreeInline(page: u32, pages: u32): void {
  if (COMPACT) {
    takeFree(page, pages);
    return;
  }
  const end = page + pages;
  raiseFresh(end);
  const at = wordAt(page);
  const last = wordAt(end);
  const bound = boundOf(flip(at, page, last, end, true));
  const word = end >>> WORD_BITS;
  setGrade(word, at == last ? min(gradeOfWord(word), bound) : bound);
}

/** Returns the lowest page from which on `pages` pages are free; 0 if there is none. */
export function findFree(pages: u32): u32 {
  if (COMPACT) return findAligned(pages, 1);
  const s = state();
  // Adding this sets the top bit of each grade that is high enough.
  const difference = ONES * <u64>(BEST + 1 - gradeOf(pages));
  let at = s.firstGrades;
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

/** `findFree` for the series that begin in a word. If there is none, it lowers the word's grade. */
@inline
function findIn(word: u32, pages: u32): u32 {
  const bits = load<u64>(addressOfWord(word));
  const first = word << WORD_BITS;
  let longest = WORD_PAGES;
  if (pages <= WORD_PAGES) {
    longest = pages - 1;
    // Where a series begins that may be long enough within the word, because these of its pages are free: in most cases
    // the first of them is.
    let starts =
      bits & ~(bits << 1) & (bits >>> longest) & (bits >>> (pages >>> 1)) & (bits >>> (pages >>> 2));
    for (; starts; starts &= starts - 1) {
      const start = <u32>ctz<u64>(starts);
      if (<u32>ctz<u64>(~(bits >>> start)) >= pages) return first + start;
    }
  }
  // The last series may go on in the next word.
  const inWord = <u32>clz<u64>(~bits);
  if (inWord) {
    const next = first + WORD_PAGES;
    const length = inWord + freeFrom(next, pages);
    if (length >= pages) return next - inWord;
    longest = max(longest, length);
    // No series begins in the words that this one fills. Otherwise each of them would have its pages counted again.
    const full = (length - inWord) >>> WORD_BITS;
    if (full) fillMemory(state().grades + word + 1, 0, full);
  }
  setGrade(word, gradeOf(longest));
  return 0;
}

/** `findFree` for a page that is a multiple of `alignment`, a power of two. */
export function findAligned(pages: u32, alignment: u32): u32 {
  if (COMPACT) return findFrom(state().fresh, pages, alignment - 1);
  return alignFound(findFree(pages), pages, alignment);
}

/** Turns the result of `findFree` into that of `findAligned`. */
@inline
export function alignFound(page: u32, pages: u32, alignment: u32): u32 {
  const mask = alignment - 1;
  if (page & mask) {
    page = findFrom(page, pages, mask);
    // `takeFree` counts on the grade of this word, but the series may begin in an earlier one.
    rateWord(page >>> WORD_BITS);
  }
  return page;
}

/** `findAligned` from `page` on, by the bits alone; `mask` is the alignment - 1. */
@inline
function findFrom(page: u32, pages: u32, mask: u32): u32 {
  const s = state();
  // Aligned, a page may lie beyond the bits.
  while ((page = (page + mask) & ~mask) < s.end) {
    const length = freeFrom(page, pages);
    if (length >= pages) {
      // Only a search for any single page is certain to have found the lowest.
      if (COMPACT && pages + mask == 1) s.fresh = page;
      return page;
    }
    page += length;
    // The next free page, or the next word if there is none in this one.
    page = (page & ~IN_WORD) + <u32>ctz<u64>(load<u64>(wordAt(page)) & (ALL << page));
  }
  return 0;
}

/** Returns the number of free pages from `page` on. The count may stop early once it has reached `enough`. */
export function freeFrom(page: u32, enough: u32): u32 {
  if (COMPACT) return freeEnd(page) - page;
  let at = wordAt(page);
  let inWord = <u32>ctz<u64>(~(load<u64>(at) >>> (page & IN_WORD)));
  let total = inWord;
  if (inWord == WORD_PAGES - (page & IN_WORD))
    do {
      at += sizeof<u64>();
      inWord = <u32>ctz<u64>(~load<u64>(at));
      total += inWord;
    } while (inWord == WORD_PAGES && total < enough);
  return total;
}

/** Returns the first page from `page` on that is not free. */
@inline
function freeEnd(page: u32): u32 {
  let inWord: u32;
  do {
    inWord = <u32>ctz<u64>(~(load<u64>(wordAt(page)) >>> page));
    page += inWord;
  } while (inWord && !(page & IN_WORD));
  return page;
}

/** Returns the number of free pages directly before `page`. */
export function freeBefore(page: u32): u32 {
  if (COMPACT) {
    const end = page;
    while (isFree(page - 1)) --page;
    return end - page;
  }
  --page;
  let at = wordAt(page);
  let inWord = <u32>clz<u64>(~(load<u64>(at) << ~page));
  let total = inWord;
  if (inWord == (page & IN_WORD) + 1)
    do {
      at -= sizeof<u64>();
      inWord = <u32>clz<u64>(~load<u64>(at));
      total += inWord;
    } while (inWord == WORD_PAGES);
  return total;
}


@inline
export function isFree(page: u32): bool {
  return !!((<u32>(load<u64>(wordAt(page)) >>> page)) & 1);
}

/** Returns the size in bytes of the bits and grades that follow the entries of a map of `capacity` pages. */
@inline
export function freeBytes(capacity: u32): usize {
  return (capacity >>> 3) + (COMPACT ? 0 : (capacity >>> WORD_BITS) + END_GRADES);
}

/** Moves the bits and grades of `old` pages to `to`, enlarged to `capacity` pages. */
@inline
export function moveFree(to: usize, old: u32, capacity: u32): void {
  const s = state();
  const grades = to + (capacity >>> 3);
  fillMemory(to, 0, freeBytes(capacity));
  copyMemory(to, s.free, old >>> 3);
  s.free = to;
  if (COMPACT) return;
  copyMemory(grades, s.grades, old >>> WORD_BITS);
  fillMemory(grades + (capacity >>> WORD_BITS), <u8>BEST, END_GRADES);
  s.grades = grades;
  s.firstGrades = grades + ((s.start >>> (WORD_BITS + GROUP_BITS)) << GROUP_BITS);
}
