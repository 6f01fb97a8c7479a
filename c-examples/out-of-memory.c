/*
 * Memory runs out, and the program continues. A request that cannot be satisfied returns NULL and sets errno; nothing
 * else changes, so a program can free something that it does not need and try again.
 *
 * Linked with -Wl,--max-memory=4194304, which limits linear memory to 4 MiB. Compiled with -fno-builtin: otherwise clang
 * assumes that malloc and similar functions do not change errno.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THUMBNAIL = 64 * 1024, THUMBNAILS = 100 };

/* Data that can be created again when needed. */
static char *cache[THUMBNAILS];
static int cached;

/* Like malloc, but frees cached data, the newest first, to make room. Returns NULL if even that is not enough. */
static void *malloc_or_evict(size_t size, int *evicted) {
  *evicted = 0;
  for (;;) {
    void *block = malloc(size);
    if (block || cached == 0) return block;
    free(cache[--cached]);
    cache[cached] = NULL;
    ++*evicted;
  }
}

int main(void) {
  errno = 0;
  while (cached < THUMBNAILS && (cache[cached] = malloc(THUMBNAIL))) {
    memset(cache[cached], cached, THUMBNAIL);
    cached++;
  }
  int error = errno; /* saved before printf can change it */
  printf("memory is full of thumbnails: %s\n", cached > 32 && cached < 64 ? "yes" : "no");
  printf("errno is ENOMEM: %s\n", error == ENOMEM ? "yes" : "no");

  /* A realloc that fails leaves the block unchanged. */
  char *grown = realloc(cache[1], 2 * 1024 * 1024);
  printf("realloc failed and kept the block: %s\n", !grown && cache[1][0] == 1 && cache[1][THUMBNAIL - 1] == 1 ? "yes" : "no");

  int evicted;
  char *picture = malloc_or_evict(1024 * 1024, &evicted);
  printf("a picture of 1 MiB fits: %s\n", picture ? "yes" : "no");
  printf("some of the thumbnails made room: %s\n", evicted > 0 && cached > 0 ? "yes" : "no");
  free(picture);

  /* Impossible sizes are errors too: they never result in a block that is too small. */
  errno = 0;
  void *overflow = calloc(SIZE_MAX / 2, 4);
  printf("calloc noticed the overflow: %s\n", !overflow && errno == ENOMEM ? "yes" : "no");

  while (cached > 0) free(cache[--cached]);
  picture = malloc(3 * 1024 * 1024);
  printf("and with the cache gone, 3 MiB fit: %s\n", picture ? "yes" : "no");
  free(picture);
  return EXIT_SUCCESS;
}
