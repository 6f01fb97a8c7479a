/*
 * The page map of src/pages.ts, moved by one thread under the lock while others look up Runs without the lock. A map is
 * an array of two entries, for pages 0 and 1. Each is the page of a block that the mover hands out: the first before it
 * moves the map, the second after. Checked: a thread that has a block finds its Run, wherever the map is at the time.
 *
 * Two variants are wrong, and must fail. EARLY publishes the new map's address before the copy. REUSED frees the memory
 * of the old map, which is then written to.
 */
#define MAPS 2
#define PAGES 2
#define NOBODY 0
#define RUN 7

typedef Map { byte entry[PAGES] };
Map map[MAPS];
byte current = 0;
/* Which blocks have been handed over to the readers. */
bool given[PAGES];

inline copy() {
  map[1].entry[0] = map[0].entry[0];
  map[1].entry[1] = map[0].entry[1]
}

/* Holds the lock all the time: nobody else writes. */
proctype Mover() {
  map[current].entry[0] = RUN;
  given[0] = true;
#ifdef EARLY
  current = 1;
  copy();
#else
  copy();
  current = 1;
#endif
#ifdef REUSED
  map[0].entry[0] = NOBODY;
#endif
  map[current].entry[1] = RUN;
  given[1] = true
}

proctype Reader(byte page) {
  byte at;
  given[page];
  at = current;
  assert(map[at].entry[page] == RUN)
}

init {
  atomic {
    run Mover();
    run Reader(0);
    run Reader(1);
    run Reader(0)
  }
}
