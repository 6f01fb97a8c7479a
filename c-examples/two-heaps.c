/*
 * Two allocators in one program: libc's, under the standard names, and rsbmalloc, under the names with the prefix rsb.
 * Linked with -lrsbmallocc-prefixed, which defines only these names. Both get their memory from the same linear memory.
 *
 * The program compares how many bytes each needs for a block of a given size.
 */
#include <rsbmallocc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 1000 };

typedef void *allocate_function(size_t size);

static unsigned char *blocks[BLOCKS];

/* Returns the most frequent distance between consecutive blocks: the size of a block with its header and rounding. */
static size_t bytes_for_each(allocate_function *allocate, size_t size, int fill) {
  size_t distances[BLOCKS] = {0};
  for (int i = 0; i < BLOCKS; i++) {
    blocks[i] = allocate(size);
    if (!blocks[i]) exit(EXIT_FAILURE);
    memset(blocks[i], fill, size);
  }
  size_t best = 0, best_count = 0;
  for (int i = 1; i < BLOCKS; i++) {
    uintptr_t one = (uintptr_t)blocks[i - 1], other = (uintptr_t)blocks[i];
    size_t distance = one < other ? other - one : one - other;
    if (distance < BLOCKS && ++distances[distance] > best_count) {
      best = distance;
      best_count = distances[distance];
    }
  }
  return best;
}

static int all_hold(size_t size, int fill) {
  for (int i = 0; i < BLOCKS; i++) {
    for (size_t at = 0; at < size; at++) {
      if (blocks[i][at] != fill) return 0;
    }
  }
  return 1;
}

int main(void) {
  static const size_t sizes[] = {4, 8, 16, 32, 64, 96, 128, 256};

  puts("size  libc  rsbmalloc");
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    size_t size = sizes[i];
    static unsigned char *theirs[BLOCKS];

    size_t libc = bytes_for_each(malloc, size, 'l');
    memcpy(theirs, blocks, sizeof blocks);
    size_t rsb = bytes_for_each(rsbmalloc, size, 'r');
    printf("%4zu  %4zu  %9zu\n", size, libc, rsb);

    /* Neither has touched the other's blocks. Each block must be freed by its own allocator. */
    if (!all_hold(size, 'r')) return EXIT_FAILURE;
    for (int block = 0; block < BLOCKS; block++) rsbfree(blocks[block]);
    memcpy(blocks, theirs, sizeof blocks);
    if (!all_hold(size, 'l')) return EXIT_FAILURE;
    for (int block = 0; block < BLOCKS; block++) free(blocks[block]);
  }
  return EXIT_SUCCESS;
}
