/* What stands in for malloc and free in bench/c/threads.c, so that its own loop and calls can be timed: a block to a thread. */
#include <stddef.h>

/* Threads' blocks share no cache lines. */
static _Thread_local struct {
  char before[128];
  long long block[8];
  char after[128];
} own;
static _Thread_local void *volatile freed;

void *null_malloc(size_t size) {
  (void)size;
  return own.block;
}

void null_free(void *block) { freed = block; }
