/*
 * What becomes of a thread's cache when the thread ends. Prints how many different blocks threads get, one after the
 * other, each of which frees its block; then, after several threads at once have filled their caches, how many bytes more
 * than before are in use.
 */
#include <pthread.h>
#include <rsbmallocc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { IN_TURN = 16, THREADS = 6, SIZES = 60, BLOCKS = 40 };

static pthread_barrier_t all;

static void *visit(void *argument) {
  (void)argument;
  void *block = malloc(1000);
  free(block);
  return block;
}

static void *fill(void *argument) {
  static _Thread_local void *blocks[BLOCKS];
  for (size_t size = 8; size < 8 * SIZES; size += 8) {
    for (int i = 0; i < BLOCKS; i++) blocks[i] = malloc(size);
    for (int i = 0; i < BLOCKS; i++) free(blocks[i]);
  }
  pthread_barrier_wait(&all);
  return argument;
}

static pthread_t start(void *(*run)(void *)) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, run, NULL)) abort();
  return thread;
}

static int different_blocks(void) {
  void *blocks[IN_TURN];
  int different = 0;
  for (int i = 0; i < IN_TURN; i++) {
    void *block;
    pthread_join(start(visit), &block);
    int same = 0;
    while (same < different && blocks[same] != block) same++;
    if (same == different) blocks[different++] = block;
    /* The thread's worker is at the disposal of the next thread some time after the thread was joined. */
    usleep(50 * 1000);
  }
  return different;
}

int main(void) {
  printf("different blocks: %d\n", different_blocks());
  size_t before = rsbmallinfo().in_use;
  pthread_t threads[THREADS];
  pthread_barrier_init(&all, NULL, THREADS);
  for (int i = 0; i < THREADS; i++) threads[i] = start(fill);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  size_t after = rsbmallinfo().in_use;
  /* Threads free some of their memory late. */
  for (int tries = 0; after > before && tries < 100; tries++) {
    usleep(20 * 1000);
    after = rsbmallinfo().in_use;
  }
  printf("more in use: %ld\n", (long)(after - before));
  return 0;
}
