// Uses libc's malloc and rsbmalloc in one program: each has its own blocks in the same memory. Exits with 0, or with the
// number of the first check that failed.
#include <rsbmallocc.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 200 };

static size_t size_of(int round, int i) { return (size_t)(1 + (i * 7919 + round * 104729) % (i % 10 ? 500 : 70000)); }

static int holds(const unsigned char *block, int value, size_t size) {
  for (size_t i = 0; i < size; i++) {
    if (block[i] != value) return 0;
  }
  return 1;
}

int main(void) {
  static unsigned char *theirs[BLOCKS], *ours[BLOCKS];
  for (int round = 0; round < 20; round++) {
    for (int i = 0; i < BLOCKS; i++) {
      size_t size = size_of(round, i);
      /* The first block is ours. The program's first call of malloc comes after it, and must not claim its memory. */
      ours[i] = rsbmalloc(size);
      theirs[i] = malloc(size);
      if (!theirs[i] || !ours[i]) return 1;
      memset(theirs[i], i, size);
      memset(ours[i], 255 - i, size);
    }
    for (int i = 0; i < BLOCKS; i++) {
      if (!holds(theirs[i], i, size_of(round, i))) return 2;
      if (!holds(ours[i], 255 - i, size_of(round, i))) return 3;
      free(theirs[i]);
      rsbfree(ours[i]);
    }
  }
  return rsbmallinfo().in_use > 4096 * 64 ? 4 : 0;
}
