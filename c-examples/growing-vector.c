/*
 * A vector of numbers that grows as it is filled. It requests 1.5 times its size each time, and then uses all of the
 * block: malloc_usable_size returns its real size, which may be larger than requested.
 */
#include <stdio.h>
#include <stdlib.h>

/* From GNU and POSIX 2024: not every libc for wasm declares them. */
size_t malloc_usable_size(void *block);
void *reallocarray(void *block, size_t count, size_t size);

struct vector {
  int *items;
  size_t count;
  size_t capacity;
};

/* Appends an item. Returns 0 on success, or -1 if memory runs out; the vector is then unchanged. */
static int push(struct vector *vector, int item) {
  if (vector->count == vector->capacity) {
    size_t wanted = vector->capacity + vector->capacity / 2 + 4;
    int *grown = reallocarray(vector->items, wanted, sizeof *grown);
    if (!grown) return -1;
    vector->items = grown;
    vector->capacity = malloc_usable_size(grown) / sizeof *grown;
  }
  vector->items[vector->count++] = item;
  return 0;
}

/* Frees unused capacity. A block that shrinks stays in place if possible. */
static void shrink_to_fit(struct vector *vector) {
  int *smaller = reallocarray(vector->items, vector->count, sizeof *smaller);
  if (!smaller) return;
  vector->items = smaller;
  vector->capacity = vector->count;
}

int main(void) {
  struct vector primes = {0};
  for (int candidate = 2; primes.count < 10000; candidate++) {
    int is_prime = 1;
    for (size_t i = 0; i < primes.count && primes.items[i] * primes.items[i] <= candidate; i++) {
      if (candidate % primes.items[i] == 0) {
        is_prime = 0;
        break;
      }
    }
    if (is_prime && push(&primes, candidate) != 0) return EXIT_FAILURE;
  }
  shrink_to_fit(&primes);
  printf("%zu primes, the last is %d\n", primes.count, primes.items[primes.count - 1]);
  free(primes.items);
  return EXIT_SUCCESS;
}
