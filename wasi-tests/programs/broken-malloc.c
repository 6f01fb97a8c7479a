// An allocator that breaks one rule, selected by BROKEN (none if 0), which the benchmarks' check must report.
#include <stddef.h>
#include <stdint.h>

enum { SOUND, OVERLAPS, GIVES_NULL, MISALIGNS, OUTSIDE, DIRTY, FORGETS };

static char heap[1 << 20];
static size_t used, calls;

void *malloc(size_t size) {
  calls++;
  if (BROKEN == GIVES_NULL && calls == 50) return NULL;
  if (BROKEN == OUTSIDE && calls == 50) return (void *)0xfffffff0u;
  char *block = heap + used;
  used += (size + 31) & ~(size_t)15;
  if (BROKEN == OVERLAPS && calls == 50) return block - 40;
  if (BROKEN == MISALIGNS && calls == 50) return block + 1;
  return block;
}

void free(void *ptr) {}

void *calloc(size_t count, size_t size) {
  char *block = malloc(count * size);
  if (BROKEN == DIRTY) block[count * size - 1] = 1;
  return block;
}

void *realloc(void *ptr, size_t size) {
  char *block = malloc(size);
  if (BROKEN != FORGETS)
    for (size_t i = 0; i < size; i++) block[i] = ((char *)ptr)[i];
  return block;
}

int posix_memalign(void **memptr, size_t alignment, size_t size) {
  used += alignment;
  used -= (uintptr_t)(heap + used) % alignment;
  *memptr = malloc(size);
  return 0;
}
