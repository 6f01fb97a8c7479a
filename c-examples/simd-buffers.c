/*
 * Buffers for vector code, aligned to a cache line. aligned_alloc accepts any power of two, and free accepts its blocks:
 * no wrapper is needed, and no offset to remember.
 *
 * Compiled with -msimd128.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <wasm_simd128.h>

enum { CACHE_LINE = 64, COUNT = 100000 };

static float *new_buffer(size_t count) {
  float *buffer = aligned_alloc(CACHE_LINE, count * sizeof *buffer);
  if (!buffer || (uintptr_t)buffer % CACHE_LINE != 0) exit(EXIT_FAILURE);
  return buffer;
}

/* Returns the dot product of two aligned vectors whose length is a multiple of 4. */
static float dot_product(const float *a, const float *b, size_t count) {
  v128_t sum = wasm_f32x4_splat(0);
  for (size_t i = 0; i < count; i += 4) {
    sum = wasm_f32x4_add(sum, wasm_f32x4_mul(wasm_v128_load(a + i), wasm_v128_load(b + i)));
  }
  return wasm_f32x4_extract_lane(sum, 0) + wasm_f32x4_extract_lane(sum, 1) + wasm_f32x4_extract_lane(sum, 2) +
         wasm_f32x4_extract_lane(sum, 3);
}

int main(void) {
  float *a = new_buffer(COUNT);
  float *b = new_buffer(COUNT);
  for (int i = 0; i < COUNT; i++) {
    a[i] = (float)(i % 8);
    b[i] = i % 2 ? 1 : -1;
  }
  printf("dot product: %g\n", dot_product(a, b, COUNT));
  free(b);
  free(a);

  /* Every power of two works, as far as memory has room. */
  for (size_t alignment = 16; alignment <= 1 << 20; alignment *= 16) {
    void *block = aligned_alloc(alignment, alignment);
    printf("aligned to %7zu: %s\n", alignment, block && (uintptr_t)block % alignment == 0 ? "yes" : "no");
    free(block);
  }

  /* Any other alignment is an error (EINVAL), for every function that takes one. */
  size_t odd = 48;
  void *refused = aligned_alloc(odd, 10 * odd);
  printf("aligned to %7zu: %s\n", odd, refused ? "yes" : "refused");
  free(refused);
  return EXIT_SUCCESS;
}
