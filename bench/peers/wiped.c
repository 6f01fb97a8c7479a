// The plain library, except that a freed block is wiped: the least that a hardened one can cost.
#include <stddef.h>
#include <wasm_simd128.h>
#include "rsbmallocc.h"

/* Up to this size in bytes, a loop is faster than the engine's memory.fill. Slot sizes from 16 on are multiples of 16. */
enum { LOOP_MAX = 256 };

static void wipe(char *block, size_t size) {
  if (size < 16 || size > LOOP_MAX) __builtin_memset(block, 0, size);
  else
    for (char *end = block + size; block != end; block += 16) wasm_v128_store(block, wasm_i64x2_splat(0));
}

void free(void *ptr) {
  if (!ptr) return;
  wipe(ptr, rsbmalloc_usable_size(ptr));
  rsbfree(ptr);
}

void *malloc(size_t size) { return rsbmalloc(size); }
void *calloc(size_t count, size_t size) { return rsbcalloc(count, size); }
void *realloc(void *ptr, size_t size) { return rsbrealloc(ptr, size); }
void *aligned_alloc(size_t alignment, size_t size) { return rsbaligned_alloc(alignment, size); }
size_t malloc_usable_size(void *ptr) { return rsbmalloc_usable_size(ptr); }
int posix_memalign(void **memptr, size_t alignment, size_t size) { return rsbposix_memalign(memptr, alignment, size); }
