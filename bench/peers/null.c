// The null allocator, for the cost of the replay loop and its calls alone. It always returns the same block.
#include <stddef.h>

static long long block[8];

void *malloc(size_t size) { return block; }
void free(void *ptr) {}
void *calloc(size_t count, size_t size) { return block; }
void *realloc(void *ptr, size_t size) { return block; }
int posix_memalign(void **memptr, size_t alignment, size_t size) {
  *memptr = block;
  return 0;
}
void *aligned_alloc(size_t alignment, size_t size) { return block; }
size_t malloc_usable_size(void *ptr) { return 0; }

#ifdef __EMSCRIPTEN__
// Emscripten's support for threads calls these.
void *emscripten_builtin_memalign(size_t alignment, size_t size) { return block; }
void emscripten_builtin_free(void *ptr) {}
#endif
