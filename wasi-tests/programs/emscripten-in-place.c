// Resizes blocks in place and writes to all of their new size.
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <rsbmallocc.h>

void *emmalloc_realloc_try(void *, size_t);
void *aligned_realloc(void *, size_t, size_t);
void *emmalloc_aligned_realloc_uninitialized(void *, size_t, size_t);

static int is_filled(const char *block, size_t size) {
  for (size_t i = 0; i < size; i++) {
    if (block[i] != 1) return 0;
  }
  return 1;
}

int main(void) {
  static const size_t sizes[] = {0, 1, 100, 3000, 20000, 100000};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    size_t size = sizes[i], most = size + size / 2;
    char *block = malloc(size);
    memset(block, 1, size);
    if (emmalloc_realloc_try(block, most)) {
      if (!is_filled(block, size)) return 1;
      memset(block, 1, size = most);
    }
    rsbmalloc_check();
    if (emmalloc_realloc_try(block, size / 2)) size /= 2;
    else if (size > 1) return 2;
    if (!is_filled(block, size)) return 3;
    rsbmalloc_check();
    char *aligned = aligned_realloc(block, 256, 5000);
    if ((size_t)aligned % 256 || !is_filled(aligned, size < 5000 ? size : 5000)) return 4;
    // It would fit where it is, but for the alignment.
    aligned = aligned_realloc(aligned, 65536, 4000);
    if ((size_t)aligned % 65536 || !is_filled(aligned, size < 4000 ? size : 4000)) return 5;
    aligned = emmalloc_aligned_realloc_uninitialized(aligned, 1 << 20, 3000);
    if ((size_t)aligned % (1 << 20)) return 6;
    free(aligned);
  }
  printf("in place\n");
  return 0;
}
