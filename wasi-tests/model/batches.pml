/*
 * A stack of batches of src/batches.ts: threads pop batches and push them back in another order, so that what one of
 * them has read may be stale by the time of its CAS. A thread that has popped a batch overwrites its link. Checked: no
 * batch is ever popped twice without a push in between, and in the end all of them are on the stack.
 *
 * UNCOUNTED is broken: the head is an address without a count, so it is open to ABA.
 */
#define THREADS 3
#define BATCHES 3
#define NONE BATCHES
#define GARBAGE 99

byte head = 0;
byte puts = 0;
byte link[BATCHES];
/* A ghost variable: the batches that are not on the stack. */
bool taken[BATCHES];

#ifdef UNCOUNTED
#define UNCHANGED (head == first)
#else
#define UNCHANGED (head == first && puts == count)
#endif

inline take(batch) {
  do
  ::
    atomic { first = head; count = puts }
    if
    :: first == NONE -> batch = NONE; break
    :: else
    fi;
    next = link[first];
    atomic {
      if
      :: UNCHANGED ->
        head = next;
        batch = first;
        assert(batch < BATCHES && !taken[batch]);
        taken[batch] = true;
        break
      :: else
      fi
    }
  od;
  if
  :: batch != NONE -> link[batch] = GARBAGE
  :: else
  fi
}

inline put(batch) {
  do
  :: batch == NONE -> break
  :: else ->
    atomic { first = head; count = puts }
    link[batch] = first;
    atomic {
      if
      :: UNCHANGED ->
        head = batch;
        puts++;
        taken[batch] = false;
        break
      :: else
      fi
    }
  od
}

proctype Thread() {
  byte first, count, next, one, other;
  take(one);
  take(other);
  put(one);
  put(other)
}

init {
  byte i;
  atomic {
    for (i : 0 .. BATCHES - 1) {
      link[i] = i + 1
    }
    for (i : 1 .. THREADS) {
      run Thread()
    }
  }
  _nr_pr == 1;
  for (i : 1 .. BATCHES) {
    assert(head < BATCHES);
    head = link[head]
  }
  assert(head == NONE)
}
