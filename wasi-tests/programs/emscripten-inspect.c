/*
 * Allocates blocks, in each of its threads if it has several, and keeps one of every three. While all threads exist, it
 * writes its memory to the file that its argument names.
 */
#include <emscripten.h>
#include <stdlib.h>

enum { SMALL_BLOCKS = 30, SMALL = 3000, LARGE_BLOCKS = 6, LARGE = 100000 };

static void work(void) {
  void *small[SMALL_BLOCKS], *large[LARGE_BLOCKS];
  for (int i = 0; i < SMALL_BLOCKS; i++) small[i] = malloc(SMALL);
  for (int i = 0; i < LARGE_BLOCKS; i++) large[i] = malloc(LARGE);
  for (int i = 0; i < SMALL_BLOCKS; i++)
    if (i % 3) free(small[i]);
  for (int i = 0; i < LARGE_BLOCKS; i++)
    if (i % 3) free(large[i]);
}

#ifdef __EMSCRIPTEN_PTHREADS__
#include <pthread.h>
#include <unistd.h>

enum { THREADS = 2 };
static _Atomic int worked;

static void *run(void *argument) {
  work();
  worked++;
  while (1) pause();
  return argument;
}

static void work_elsewhere(void) {
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, run, NULL);
  while (worked < THREADS) continue;
}
#else
static void work_elsewhere(void) {}
#endif

int main(void) {
  work();
  work_elsewhere();
  EM_ASM({ require("fs").writeFileSync(process.argv[2], HEAPU8.slice()); });
  exit(0);
}
