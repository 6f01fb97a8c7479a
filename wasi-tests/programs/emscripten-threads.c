/*
 * Threads with Emscripten: all of them, including the main one, make random calls at once; then one thread allocates
 * blocks that another frees; and then many short-lived threads run, one after the other. Linked with threads.c.
 */
#include <pthread.h>
#include <rsbmallocc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int stress(unsigned seed, int calls);
void drain(void);
void produce(int queue, unsigned seed, int blocks, unsigned most);
void consume(int queue, int blocks, int first, int step);
void visit(unsigned seed);

/* The number of calls of each thread, and the number of short-lived threads. */
#ifndef CALLS
#define CALLS 4000
#define VISITS 300
#endif
enum { THREADS = 4, BLOCKS = 20000, STACK = 65536 };

/* More threads than there are caches on four cores; in each round all of them begin and end at about the same time. */
enum { CROWD = 18, ROUNDS = 20 };
static pthread_barrier_t crowd;

static void *run_stress(void *argument) { return (void *)(size_t)stress((unsigned)(size_t)argument, CALLS); }
static void *run_produce(void *argument) { return produce(0, 1, BLOCKS, 2000), argument; }
static void *run_consume(void *argument) { return consume(0, BLOCKS, 0, 1), argument; }
static void *run_crowd(void *argument) {
  size_t failed = stress((unsigned)(size_t)argument, 100);
  pthread_barrier_wait(&crowd);
  return (void *)failed;
}
static void *run_visit(void *argument) { return visit(1), argument; }

static pthread_t start(void *(*run)(void *), size_t argument) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, run, (void *)argument)) abort();
  return thread;
}

static size_t join(pthread_t thread) {
  void *result;
  pthread_join(thread, &result);
  return (size_t)result;
}

int main(void) {
  pthread_t threads[CROWD];
  /* Runs a thread first: what libc and the first threads allocate and keep is not counted below. */
  join(start(run_visit, 0));
  size_t before = rsbmallinfo().in_use;

  for (int i = 0; i < THREADS; i++) threads[i] = start(run_stress, i + 1);
  size_t failed = stress(THREADS + 1, CALLS);
  for (int i = 0; i < THREADS; i++) failed += join(threads[i]);
  pthread_barrier_init(&crowd, NULL, CROWD);
  for (int round = 0; round < ROUNDS; round++) {
    for (int i = 0; i < CROWD; i++) threads[i] = start(run_crowd, round * CROWD + i + 1);
    for (int i = 0; i < CROWD; i++) failed += join(threads[i]);
  }
  drain();
  rsbmalloc_check();
  printf("failed calls: %zu\n", failed);

  pthread_t producer = start(run_produce, 0), consumer = start(run_consume, 0);
  join(producer), join(consumer);

  for (int i = 0; i < 10; i++) join(start(run_visit, 0));
  void *end = sbrk(0);
  for (int i = 0; i < VISITS; i++) join(start(run_visit, 0));
  /* The main thread frees a stack some time after joining its thread, so a few stacks may exist at once. */
  printf("a stack for each thread: %d\n", (char *)sbrk(0) - (char *)end > 75 * STACK);

  /*
   * A thread's cache, too, is returned some time after the thread was joined, which takes a while on a busy machine, and
   * some bins have begun a run.
   */
  int more = 1;
  for (int tries = 0; more && tries < 100; tries++) {
    if (tries) usleep(100 * 1000);
    more = rsbmallinfo().in_use > before + 4 * STACK;
  }
  printf("more in use than before: %d\n", more);
  printf("threads ok\n");
  return 0;
}
