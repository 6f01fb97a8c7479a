// A program that defines its own malloc, which calls Emscripten's and counts the blocks in use.
#include <emscripten/heap.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *emscripten_builtin_malloc(size_t);
void emscripten_builtin_free(void *);
void *emscripten_builtin_memalign(size_t, size_t);

static int alive;

void *malloc(size_t size) {
  alive++;
  return emscripten_builtin_malloc(size);
}

void free(void *block) {
  if (block) alive--;
  emscripten_builtin_free(block);
}

void *memalign(size_t alignment, size_t size) {
  alive++;
  return emscripten_builtin_memalign(alignment, size);
}

int main(void) {
  char *volatile copy = strdup("counted");
  void *volatile block = malloc(100000);
  void *volatile aligned = memalign(256, 10);
  int most = alive;
  free(copy);
  free(block);
  free(aligned);
  printf("%d alive, %d in the end\n", most, alive);
  return 0;
}
