/*
 * Plain C: nothing here knows of rsbmalloc. Linked with -lrsbmallocc, malloc and free are rsbmalloc's.
 *
 *     clang --target=wasm32-wasi hello-malloc.c -Llib/wasm32-wasi -lrsbmallocc -o hello-malloc.wasm
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A copy of two strings, one after the other, that the caller frees; NULL if there is no memory for it. */
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

  /* A block grows with realloc. Only its result may be used from then on. */
  char *longer = realloc(greeting, strlen(greeting) + sizeof " And realloc.");
  if (!longer) {
    free(greeting);
    return EXIT_FAILURE;
  }
  puts(strcat(longer, " And realloc."));
  free(longer);

  /* calloc's blocks are zero. */
  int *counters = calloc(1000, sizeof *counters);
  if (!counters) return EXIT_FAILURE;
  long sum = 0;
  for (int i = 0; i < 1000; i++) sum += counters[i];
  printf("1000 counters, their sum is %ld\n", sum);
  free(counters);
  return EXIT_SUCCESS;
}
