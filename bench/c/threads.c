/*
 * Workloads for several threads. `threads WORKLOAD THREADS WINDOWS` runs a workload with THREADS threads for WINDOWS windows
 * of time, and prints "NANOSECONDS BYTES". The first is the wall-clock time per pair of malloc and free, counting the pairs
 * of all threads, in the best window; the second is the size of the heap at the end, without the threads' stacks. Built
 * without -pthread, the program has one thread.
 *
 * With -DNULL_MALLOC and threads-null.c it measures the loop alone. To keep that time short, sizes are drawn beforehand and
 * blocks pass between threads in batches. The workloads `spin` and `wide` are controls, which do not use memory: they show
 * how well the machine runs that many threads at the moment.
 */
#include <emscripten.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef __EMSCRIPTEN_PTHREADS__
#include <emscripten/threading.h>
#include <pthread.h>
#endif

#ifdef NULL_MALLOC
void *null_malloc(size_t);
void null_free(void *);
#define malloc null_malloc
#define free null_free
#endif

enum { THREADS = 8, STACK = 65536, SIZES = 4096, BLOCKS = 4096, PAIRS = 1024, BATCH = 64, BATCHES = 64 };

/*
 * In milliseconds: the length of a window, and the time before the first one, while the engine still compiles. Windows are
 * so short that even on a busy machine all threads have their cores in one of them.
 */
static const double WINDOW = 10, WARM_UP = 250;

typedef struct Batch {
  void *blocks[BATCH];
} Batch;

typedef struct Thread {
  /* What other threads write, or read often, has cache lines of its own. */
  _Alignas(128) atomic_uint pairs;
  _Alignas(128) int index;
  unsigned random, size, cell;
  void **table;
  Batch *batch;
  /* The batches that a producer passes to its consumer. */
  Batch ring[BATCHES];
  _Alignas(128) atomic_int full[BATCHES];
  /* Whether a thread waits for an empty cell, and for a full one. */
  _Alignas(128) atomic_bool waiting[2];
} Thread;

static int count;
static Thread threads[THREADS];
static unsigned short small[SIZES], medium[SIZES], mixed[SIZES];
/* Written by all threads, so these have cache lines of their own as well. */
static _Alignas(128) _Atomic(void **) left_table;
static _Alignas(128) atomic_uint position;
static _Alignas(128) atomic_bool stopped;

static void *tables[THREADS][BLOCKS];
static Batch batches[BATCHES + THREADS];
static _Atomic(Batch *) cells[BATCHES];

static unsigned draw(unsigned *random) {
  return (*random = *random * 1664525 + 1013904223) >> 8;
}

/* Allocates a block and, as programs do, writes to it: the first byte. */
static inline void *make(Thread *t, const unsigned short *sizes) {
  char *block = malloc(sizes[t->size++ % SIZES]);
  if (!block) abort();
  *block = 1;
  return block;
}

static void fill(Thread *t, Batch *batch, const unsigned short *sizes) {
  for (int i = 0; i < BATCH; i++) batch->blocks[i] = make(t, sizes);
}

static void empty(Batch *batch) {
  for (int i = 0; i < BATCH; i++) free(batch->blocks[i]);
}

static void churn(Thread *t, const unsigned short *sizes) {
  for (int i = 0; i < PAIRS; i++) {
    void **block = &t->table[draw(&t->random) % BLOCKS];
    free(*block);
    *block = make(t, sizes);
  }
}

/* Each thread on its own replaces random blocks. */
static unsigned local(Thread *t) {
  churn(t, small);
  return PAIRS;
}

/* The same, but a thread soon leaves its blocks to another, as in the benchmark by Larson and Krishnan. */
static unsigned larson(Thread *t) {
  churn(t, medium);
  t->table = atomic_exchange(&left_table, t->table);
  return PAIRS;
}

/* Waits until `*full` is `value`: spins for about as long as a batch takes, then sleeps until `hand_over`. */
static void wait_for(Thread *producer, atomic_int *full, int value) {
#ifdef __EMSCRIPTEN_PTHREADS__
  for (int spins = 0; spins < 5000 && atomic_load(full) != value; spins++) {}
  while (atomic_load(full) != value && !atomic_load(&stopped)) {
    atomic_store(&producer->waiting[value], true);
    emscripten_futex_wait(full, !value, 1);
  }
#endif
}

/* Sets `*full` to `value`, and wakes the thread that waits for this. */
static void hand_over(Thread *producer, atomic_int *full, int value) {
  atomic_store(full, value);
#ifdef __EMSCRIPTEN_PTHREADS__
  if (!atomic_load(&producer->waiting[value])) return;
  atomic_store(&producer->waiting[value], false);
  emscripten_futex_wake(full, 1);
#endif
}

/* In each pair of threads, one allocates and the other frees. A last thread without a partner does both. */
static unsigned pairs(Thread *t) {
  Thread *producer = &threads[t->index & ~1];
  unsigned cell = t->cell++ % BATCHES;
  Batch *batch = &producer->ring[cell];
  atomic_int *full = &producer->full[cell];
  bool takes = t != producer;
  if (!takes && t->index + 1 == count) {
    empty(batch);
    fill(t, batch, small);
    return BATCH;
  }
  wait_for(producer, full, takes);
  if (atomic_load(&stopped)) return 0;
  if (takes) empty(batch);
  else fill(t, batch, small);
  hand_over(producer, full, !takes);
  return takes ? BATCH : 0;
}

/* One queue: each thread appends a batch and frees the one at the front. */
static unsigned queue(Thread *t) {
  fill(t, t->batch, small);
  t->batch = atomic_exchange(&cells[atomic_fetch_add(&position, 1) % BATCHES], t->batch);
  empty(t->batch);
  return BATCH;
}

/* Blocks of mixed sizes pass from thread to thread at random. */
static unsigned exchange(Thread *t) {
  t->batch = atomic_exchange(&cells[draw(&t->random) % BATCHES], t->batch);
  for (int i = 0; i < BATCH; i++) {
    free(t->batch->blocks[i]);
    t->batch->blocks[i] = make(t, mixed);
  }
  return BATCH;
}

/* Only arithmetic, for about as long per pair as the other workloads. Each step depends on the one before. */
static unsigned spin(Thread *t) {
  for (int i = 0; i < 16 * PAIRS; i++) t->random = t->random * 1664525 + 1013904223 + (t->random >> 16);
  return PAIRS;
}

/* Eight independent chains of such steps, to see whether cores share execution units. */
static unsigned wide(Thread *t) {
  unsigned numbers[8];
  for (int i = 0; i < 8; i++) numbers[i] = t->random + i;
  for (int i = 0; i < 4 * PAIRS; i++) {
    for (int j = 0; j < 8; j++) numbers[j] = numbers[j] * 1664525 + 1013904223 + (numbers[j] >> 16);
  }
  t->random = 0;
  for (int i = 0; i < 8; i++) t->random += numbers[i];
  return PAIRS;
}

static const struct {
  const char *name;
  unsigned (*step)(Thread *);
} workloads[] = {{"spin", spin}, {"wide", wide}, {"local", local}, {"larson", larson}, {"pairs", pairs}, {"queue", queue}, {"exchange", exchange}};

static unsigned (*step)(Thread *);
static int windows;
static double best = 1e30;

static unsigned all_pairs(void) {
  unsigned sum = 0;
  for (int i = 0; i < count; i++) sum += atomic_load(&threads[i].pairs);
  return sum;
}

/* Runs a thread. The first one reads the clock for all. */
static void *run(void *thread) {
  Thread *t = thread;
  double start = emscripten_get_now(), end = start + WARM_UP;
  unsigned before = 0;
  while (!atomic_load(&stopped)) {
    for (unsigned done = 0; done < PAIRS && !atomic_load(&stopped); done += BATCH) atomic_store(&t->pairs, t->pairs + step(t));
    double now = t->index ? 0 : emscripten_get_now();
    if (now < end) continue;
    unsigned after = all_pairs();
    double time = (now - start) * 1e6 / (after - before);
    if (before && time < best) best = time;
    if (before && --windows == 0) atomic_store(&stopped, true);
    before = after;
    start = now;
    end = now + WINDOW;
  }
  return NULL;
}

int main(int argc, char **argv) {
  count = atoi(argv[2]);
  windows = atoi(argv[3]);
  for (unsigned i = 0; i < sizeof workloads / sizeof *workloads; i++)
    if (!strcmp(argv[1], workloads[i].name)) step = workloads[i].step;
  unsigned random = 1;
  for (int i = 0; i < SIZES; i++) {
    small[i] = 16 + draw(&random) % 240;
    medium[i] = 10 + draw(&random) % 490;
    mixed[i] = 8 + (draw(&random) % 16 ? draw(&random) % 248 : draw(&random) % 4088);
  }
  for (int i = 0; i < BATCHES; i++) cells[i] = &batches[i];
  static void *spare_table[BLOCKS];
  left_table = spare_table;
  for (int i = 0; i < count; i++) {
    threads[i].index = i;
    threads[i].random = threads[i].size = 2654435761u * (i + 1);
    threads[i].table = tables[i];
    threads[i].batch = &batches[BATCHES + i];
  }
  extern char __heap_base;
#ifdef __EMSCRIPTEN_PTHREADS__
  pthread_t handles[THREADS];
  for (int i = 0; i < count; i++) pthread_create(&handles[i], NULL, run, &threads[i]);
  for (int i = 0; i < count; i++) pthread_join(handles[i], NULL);
  long stacks = (count + 1l) * STACK;
#else
  run(threads);
  long stacks = 0;
#endif
  printf("%.2f %ld\n", best, (char *)sbrk(0) - &__heap_base - stacks);
  return 0;
}
