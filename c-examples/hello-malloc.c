/*
 * Plain C: nothing in the source refers to rsbmalloc. Linking with -lrsbmallocc makes malloc and free rsbmalloc's.
 *
 *     clang --target=wasm32-wasi hello-malloc.c -Llib/wasm32-wasi -lrsbmallocc -o hello-malloc.wasm
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Returns the concatenation of two strings, to be freed by the caller, or NULL if memory runs out. */
static char *join(const char *first, const char *second) {
  size_t length = strlen(first) + strlen(second);
  char *joined = malloc(length + 1);
  if (!joined) return NULL;
  strcpy(joined, first);
  return strcat(joined, second);
}

int main(void) {
  char *greeting = join("Hello, ", "malloc!");
  if (!greeting) return EXIT_FAILURE;
  puts(greeting);

  /* realloc makes a block larger. From here on, only the pointer that it returned may be used. */
  char *longer = realloc(greeting, strlen(greeting) + sizeof " And realloc.");
  if (!longer) {
    free(greeting);
    return EXIT_FAILURE;
  }
  puts(strcat(longer, " And realloc."));
  free(longer);

  /* Blocks from calloc are zeroed. */
  int *counters = calloc(1000, sizeof *counters);
  if (!counters) return EXIT_FAILURE;
  long sum = 0;
  for (int i = 0; i < 1000; i++) sum += counters[i];
  printf("1000 counters, their sum is %ld\n", sum);
  free(counters);
  return EXIT_SUCCESS;
}
