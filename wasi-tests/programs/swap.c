// A program whose malloc is exchanged after linking. It calls every function of the C library that allocates, and others
// that allocate internally, and prints only what must not depend on the malloc.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 300, STEPS = 30000 };

static unsigned hash = 2166136261u;

static void mix(unsigned value) { hash = (hash ^ value) * 16777619u; }

static uint32_t next(void) {
  static uint32_t state = 7;
  return state = state * 1664525u + 1013904223u;
}

static void fill(unsigned char *block, size_t size, unsigned seed) {
  for (size_t i = 0; i < size; i += 1 + i / 8) block[i] = (unsigned char)(seed + i);
}

static int holds(const unsigned char *block, size_t size, unsigned seed) {
  for (size_t i = 0; i < size; i += 1 + i / 8)
    if (block[i] != (unsigned char)(seed + i)) return 0;
  return 1;
}

static void wrong(const char *what) {
  printf("wrong: %s\n", what);
  exit(1);
}

static void churn(void) {
  static unsigned char *blocks[SLOTS];
  static size_t sizes[SLOTS];
  for (int step = 0; step < STEPS; step++) {
    unsigned slot = (next() >> 8) % SLOTS;
    unsigned char *block = blocks[slot];
    if (block && !holds(block, sizes[slot], slot)) wrong("a block changed");
    size_t size = (next() >> 29) ? (next() >> 8) % 500 : (next() >> 8) % 60000;
    switch ((next() >> 8) % 5) {
    case 0:
      free(block);
      block = malloc(size);
      break;
    case 1:
      free(block);
      block = calloc(size, 1);
      for (size_t i = 0; i < size; i++)
        if (block[i]) wrong("calloc");
      break;
    case 2: {
      size_t kept = sizes[slot] < size ? sizes[slot] : size;
      if (!block) kept = 0;
      block = realloc(block, size);
      if (kept > 100 && !holds(block, kept > 8 ? kept - 8 : 0, slot)) wrong("realloc");
      break;
    }
    case 3: {
      void *aligned = NULL;
      free(block);
      if (posix_memalign(&aligned, 256, size) || (uintptr_t)aligned % 256) wrong("posix_memalign");
      block = aligned;
      break;
    }
    default:
      free(block);
      block = NULL;
    }
    blocks[slot] = block;
    sizes[slot] = block ? size : 0;
    if (block) fill(block, size, slot);
    mix((unsigned)sizes[slot]);
  }
  for (int slot = 0; slot < SLOTS; slot++) free(blocks[slot]);
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void texts(void) {
  enum { COUNT = 2000 };
  char **list = malloc(COUNT * sizeof *list);
  for (int i = 0; i < COUNT; i++) {
    char text[40];
    snprintf(text, sizeof text, "%u-%d", next() >> 4, i);
    list[i] = strdup(text);
  }
  qsort(list, COUNT, sizeof *list, by_text);
  for (int i = 0; i < COUNT; i++) {
    for (char *at = list[i]; *at; at++) mix((unsigned char)*at);
    free(list[i]);
  }
  free(list);
}

int main(void) {
  churn();
  texts();
  void *volatile aligned = aligned_alloc(64, 640);
  if (!aligned || (uintptr_t)aligned % 64) wrong("aligned_alloc");
  free(aligned);
  printf("hash %08x\n", hash);
  return 0;
}
