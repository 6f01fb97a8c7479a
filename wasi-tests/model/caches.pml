/*
 * The thread caches of src/caches.ts: three threads, two caches of one bin with batches of one slot, and a heap with
 * three slots. Every load and store of a fast path is a step of its own. Pushing or popping a batch is a single step,
 * which batches.pml justifies; but there are several stacks, and a thread that tries one after the other may miss a
 * batch. Threads claim caches, allocate, swap blocks through a cell, free what others allocated, and end, so that
 * another gets the cache; a thread that finds the heap empty may break the batches. Checked: a slot is never handed out
 * twice, a cache never has two owners, and in the end all slots are in the heap, in a batch or in the cell.
 *
 * UNLOCKED is broken: there is no lock.
 */
#define THREADS 3
#define CACHES 2
#define SLOTS 3
#define NONE SLOTS
#define NO_CACHE CACHES

bool locked = false;
/* The bin's free list in the heap, the batches, and the spare caches: as sets, since their order does not matter. */
bool heap[SLOTS];
bool batched[SLOTS];
bool spare[CACHES];
/* What each cache holds of the bin. */
byte list[CACHES];
byte room[CACHES];
byte reserve[CACHES];
/* Where the program's threads swap blocks. */
byte cell = NONE;
/* Ghost variables: the slots that are handed out, and whether a cache has an owner. */
bool inUse[SLOTS];
bool owned[CACHES];

#ifdef UNLOCKED
#define lock() skip
#else
#define lock() atomic { !locked -> locked = true }
#endif
#define unlock() locked = false

/* Takes the first slot out of a set; NONE if the set is empty. */
#define take(slots, to) \
  atomic { \
    if \
    :: slots[0] -> to = 0 \
    :: !slots[0] && slots[1] -> to = 1 \
    :: !slots[0] && !slots[1] && slots[2] -> to = 2 \
    :: else -> to = NONE \
    fi; \
    if \
    :: to != NONE -> slots[to] = false \
    :: else \
    fi \
  }

inline claim() {
  if
  :: mine == NO_CACHE && spare[0] -> mine = 0
  :: mine == NO_CACHE && !spare[0] && spare[1] -> mine = 1
  :: else
  fi;
  if
  :: mine != NO_CACHE && spare[mine] ->
    atomic { spare[mine] = false; assert(!owned[mine]); owned[mine] = true }
  :: else
  fi
}

inline allocate(to) {
  to = NONE;
  if
  :: mine != NO_CACHE ->
    to = list[mine];
    if
    :: to != NONE -> list[mine] = NONE; room[mine] = room[mine] + 1
    :: else ->
      to = reserve[mine];
      if
      :: to != NONE -> reserve[mine] = NONE
      :: to == NONE -> take(batched, to)
      :: to == NONE -> skip
      fi;
      if
      :: to != NONE -> room[mine] = 1
      :: else
      fi
    fi
  :: else
  fi;
  if
  :: to == NONE ->
    lock();
    take(heap, to);
    do
    :: to != NONE -> break
    :: break
    :: to == NONE -> take(batched, to)
    od;
    if
    :: to != NONE -> claim()
    :: else
    fi;
    unlock()
  :: else
  fi;
  if
  :: to != NONE -> atomic { assert(!inUse[to]); inUse[to] = true }
  :: else
  fi
}

inline release(slot) {
  inUse[slot] = false;
  if
  :: mine == NO_CACHE ->
    lock();
    heap[slot] = true;
    unlock()
  /* For a slot so large that it is a batch of its own. */
  :: mine != NO_CACHE -> batched[slot] = true
  :: mine != NO_CACHE && room[mine] > 0 ->
    list[mine] = slot;
    room[mine] = room[mine] - 1
  :: else ->
    if
    :: reserve[mine] != NONE -> batched[reserve[mine]] = true
    :: else
    fi;
    reserve[mine] = list[mine];
    list[mine] = slot
  fi
}

inline end_thread() {
  if
  :: mine != NO_CACHE ->
    lock();
    if
    :: list[mine] != NONE -> heap[list[mine]] = true
    :: else
    fi;
    if
    :: reserve[mine] != NONE -> heap[reserve[mine]] = true
    :: else
    fi;
    list[mine] = NONE;
    reserve[mine] = NONE;
    room[mine] = 1;
    atomic { spare[mine] = true; owned[mine] = false }
    unlock();
    mine = NO_CACHE
  :: else
  fi
}

proctype Thread() {
  byte mine = NO_CACHE;
  byte block, other;
  allocate(block);
  /* The block in the cell is this thread's from now on, and the one that it puts there belongs to the next thread. */
  atomic { other = cell; cell = block }
  allocate(block);
  if
  :: other != NONE -> release(other)
  :: else
  fi;
  if
  :: block != NONE -> release(block)
  :: else
  fi;
  end_thread()
}

init {
  byte i;
  atomic {
    for (i : 0 .. SLOTS - 1) {
      heap[i] = true
    }
    for (i : 0 .. CACHES - 1) {
      spare[i] = true;
      list[i] = NONE;
      room[i] = 1;
      reserve[i] = NONE
    }
    for (i : 1 .. THREADS) {
      run Thread()
    }
  }
  _nr_pr == 1;
  for (i : 0 .. SLOTS - 1) {
    assert(heap[i] || batched[i] || cell == i)
  }
  assert(spare[0] && spare[1])
}
