/*
 * The lock of src/lock.ts: WAITERS threads that spin once and then wait, and one thread that may not wait and spins on.
 * Checked: there are never two threads in the critical section, and no thread waits forever.
 *
 * FORGETFUL is a broken lock: a thread that has waited acquires it as HELD. With three waiters, one of them sleeps
 * forever.
 */
#define WAITERS 3
#define ROUNDS 2

#define FREE 0
#define HELD 1
#define CONTENDED 2

#ifdef FORGETFUL
#define AFTER_WAIT HELD
#else
#define AFTER_WAIT CONTENDED
#endif

byte word = FREE;
byte inside = 0;
/* Which threads are asleep in memory.atomic.wait32. */
bool asleep[WAITERS];

inline enter() {
  inside++;
  assert(inside == 1);
  inside--;
}

inline unlock() {
  atomic {
    before = word;
    word = FREE;
  }
  if
  :: before == CONTENDED ->
    /* memory.atomic.notify wakes one of the sleeping threads, if there are any. */
    atomic {
      if
      :: asleep[0] -> asleep[0] = false
      :: asleep[1] -> asleep[1] = false
      :: asleep[2] -> asleep[2] = false
      :: else
      fi
    }
  :: else
  fi
}

proctype Waiter(byte me) {
  byte before;
  byte round;
  for (round : 1 .. ROUNDS) {
    /* The CAS of the fast path, and a second one that stands for the spinning before the wait. */
    atomic { before = word; if :: before == FREE -> word = HELD :: else fi }
    if
    :: before != FREE ->
      atomic { before = word; if :: before == FREE -> word = HELD :: else fi }
    :: else
    fi
    if
    :: before != FREE ->
      do
      ::
#ifdef FORGETFUL
        /* A CAS to HELD; the word is only marked CONTENDED if that fails. */
        atomic { before = word; if :: before == FREE -> word = AFTER_WAIT :: else -> word = CONTENDED fi }
#else
        atomic { before = word; word = AFTER_WAIT }
#endif
        if
        :: before == FREE -> break
        :: else
        fi
        /* memory.atomic.wait32 tests the word and falls asleep in one step. */
        atomic {
          if
          :: word == CONTENDED -> asleep[me] = true
          :: else
          fi
        }
        !asleep[me]
      od
    :: else
    fi
    enter();
    unlock()
  }
}

proctype Spinner() {
  byte before;
  byte round;
  for (round : 1 .. ROUNDS) {
    atomic { word == FREE -> word = HELD }
    enter();
    unlock()
  }
}

init {
  atomic {
    run Waiter(0);
    run Waiter(1);
    run Waiter(2);
    run Spinner()
  }
}
