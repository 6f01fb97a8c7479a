// The plain library, except that freed blocks are wiped, and small ones are checked for writes when they are handed out
// again: the least that a hardened one can cost.
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wasm_simd128.h>
#include "rsbmallocc.h"

/* Up to this size in bytes, a loop is faster than the engine's memory.fill. Slot sizes from 16 on are multiples of 16. */
enum { LOOP_MAX = 256 };

static void wipe(char *block, size_t size) {
  if (size < 16 || size > LOOP_MAX) __builtin_memset(block, 0, size);
  else
    for (char *end = block + size; block != end; block += 16) wasm_v128_store(block, wasm_i64x2_splat(0));
}

/* Whether a block is zero after its first word, where the plain library links free slots. */
static bool is_zero(const char *block, size_t size) {
  if (size <= 4) return true;
  uint64_t first = *(const uint32_t *)(block + 4);
  if (size > 8) first |= *(const uint64_t *)(block + 8);
  v128_t bits = wasm_i64x2_splat(first);
  for (size_t at = 16; at < size; at += 16) bits = wasm_v128_or(bits, wasm_v128_load(block + at));
  return !wasm_v128_any_true(bits);
}

void free(void *ptr) {
  if (!ptr) return;
  wipe(ptr, rsbmalloc_usable_size(ptr));
  rsbfree(ptr);
}

void *malloc(size_t size) {
  char *block = rsbmalloc(size);
  /* Where a hardened library would trap. Here the block may also lie where the heap had data of its own. */
  if (size <= LOOP_MAX && block && !is_zero(block, size)) __builtin_memset(block, 0, size);
  return block;
}

void *calloc(size_t count, size_t size) { return rsbcalloc(count, size); }
void *realloc(void *ptr, size_t size) { return rsbrealloc(ptr, size); }
void *aligned_alloc(size_t alignment, size_t size) { return rsbaligned_alloc(alignment, size); }
size_t malloc_usable_size(void *ptr) { return rsbmalloc_usable_size(ptr); }
int posix_memalign(void **memptr, size_t alignment, size_t size) { return rsbposix_memalign(memptr, alignment, size); }
