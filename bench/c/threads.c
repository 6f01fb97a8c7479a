/*
 * Workloads for several threads: `threads WORKLOAD THREADS CALLS` runs CALLS calls of malloc and as many of free in each
 * thread, and prints "NANOSECONDS PEAK": the wall clock time until the last thread was done, and the bytes that the
 * allocator has taken from the system by then.
 */
#include <emscripten.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_THREADS = 16, SLOTS = 1000, RING = 1024 };

typedef struct Thread {
  int index, threads, calls;
  unsigned random;
  void *slots[SLOTS];
} Thread;

/* A ring between two threads: one puts, one takes. A cell is 0 where there is room. */
typedef struct Ring {
  _Atomic(void *) cells[RING];
} Ring;

static Thread threads[MAX_THREADS];
static Ring rings[MAX_THREADS];
static _Atomic(void *) shared[SLOTS];
static atomic_int waiting, started;

static unsigned next(Thread *t) {
  t->random ^= t->random << 13;
  t->random ^= t->random >> 17;
  return t->random ^= t->random << 5;
}

/* Small sizes mostly, and a few up to 4 KiB. */
static size_t mixed_size(Thread *t) {
  unsigned r = next(t);
  return 8 + (r & 15 ? (r >> 8) % 248 : (r >> 8) % 4096);
}

/* The first byte is written, as programs do. */
static void *make(size_t size) {
  char *block = malloc(size);
  if (!block) abort();
  *block = 1;
  return block;
}

/* Each thread on its own: replaces random ones of its blocks. */
static void local(Thread *t) {
  for (int i = 0; i < t->calls; i++) {
    unsigned k = next(t) % SLOTS;
    free(t->slots[k]);
    t->slots[k] = make(16 + next(t) % 240);
  }
}

/* The same with blocks that pass from thread to thread: rounds of churn, then each takes over its neighbour's blocks. */
static pthread_barrier_t barrier;
static void larson(Thread *t) {
  enum { ROUNDS = 16 };
  for (int round = 0; round < ROUNDS; round++) {
    Thread *owner = &threads[(t->index + round) % t->threads];
    for (int i = 0; i < t->calls / ROUNDS; i++) {
      unsigned k = next(t) % SLOTS;
      free(owner->slots[k]);
      owner->slots[k] = make(10 + next(t) % 490);
    }
    pthread_barrier_wait(&barrier);
  }
}

/* A ring of threads: each allocates for the next one, which frees. */
static void ring(Thread *t) {
  Ring *out = &rings[t->index], *in = &rings[(t->index + t->threads - 1) % t->threads];
  int put = 0, taken = 0;
  while (put < t->calls || taken < t->calls) {
    if (put < t->calls && !atomic_load(&out->cells[put % RING])) atomic_store(&out->cells[put++ % RING], make(mixed_size(t)));
    if (taken < t->calls) {
      void *block = atomic_load(&in->cells[taken % RING]);
      if (!block) continue;
      atomic_store(&in->cells[taken++ % RING], NULL);
      free(block);
    }
  }
}

/* One queue for all: half of the threads put blocks, the others free them. A single one does both. */
static atomic_int head, tail;
static void queue_put(Thread *t) {
  void *block = make(mixed_size(t)), *none = NULL;
  for (unsigned cell = atomic_fetch_add(&head, 1) % SLOTS; !atomic_compare_exchange_strong(&shared[cell], &none, block);) none = NULL;
}
static void queue_take(void) {
  unsigned cell = atomic_fetch_add(&tail, 1) % SLOTS;
  void *block;
  while (!(block = atomic_exchange(&shared[cell], NULL))) {}
  free(block);
}
static void queue(Thread *t) {
  if (t->threads == 1) {
    for (int i = 0; i < t->calls; i++) queue_put(t), queue_take();
  } else if (t->index % 2) {
    for (int i = 0; i < 2 * t->calls; i++) queue_take();
  } else {
    for (int i = 0; i < 2 * t->calls; i++) queue_put(t);
  }
}

/* Mixed sizes in cells that all threads share: whoever comes frees what is there. */
static void mixed(Thread *t) {
  for (int i = 0; i < t->calls; i++) free(atomic_exchange(&shared[next(t) % SLOTS], make(mixed_size(t))));
}

static const struct { const char *name; void (*run)(Thread *); } workloads[] = {
  {"local", local}, {"larson", larson}, {"ring", ring}, {"queue", queue}, {"mixed", mixed}};

static void (*workload)(Thread *);

static void *run(void *argument) {
  Thread *t = argument;
  atomic_fetch_add(&waiting, 1);
  while (!atomic_load(&started)) {}
  workload(t);
  return NULL;
}

int main(int argc, char **argv) {
  int count = atoi(argv[2]), calls = atoi(argv[3]);
  for (unsigned i = 0; i < sizeof workloads / sizeof *workloads; i++)
    if (!strcmp(argv[1], workloads[i].name)) workload = workloads[i].run;
  pthread_barrier_init(&barrier, NULL, count);
  pthread_t handles[MAX_THREADS];
  char *before = sbrk(0);
  for (int i = 0; i < count; i++) {
    threads[i] = (Thread){.index = i, .threads = count, .calls = calls, .random = 2654435761u * (i + 1)};
    pthread_create(&handles[i], NULL, run, &threads[i]);
  }
  while (atomic_load(&waiting) < count) {}
  double start = emscripten_get_now();
  atomic_store(&started, 1);
  for (int i = 0; i < count; i++) pthread_join(handles[i], NULL);
  double time = emscripten_get_now() - start;
  printf("%.0f %ld\n", time * 1e6, (long)((char *)sbrk(0) - before));
  return 0;
}
