/*
 * The page map of src/pages.ts, moved by one thread under the lock while others look up Runs without it. A map is an
 * array of two entries; pages 0 and 1 are those of blocks that a mover has handed out: one before it moves the map, one
 * after. Checked: whoever has a block finds its Run, wherever the map is just then.
 *
 * EARLY is wrong: the new map's address is published before the copy. REUSED is wrong, too: the old map's memory is freed
 * and written to.
 */
#define MAPS 2
#define PAGES 2
#define NOBODY 0
#define RUN 7

typedef Map { byte entry[PAGES] };
Map map[MAPS];
byte current = 0;
/* Blocks on their way to the readers: set when they are handed over. */
bool given[PAGES];

inline copy() {
  map[1].entry[0] = map[0].entry[0];
  map[1].entry[1] = map[0].entry[1]
}

/* Has the lock all the time: nobody else writes. */
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
