// Makes calls when memory, which cannot grow, is nearly full. The argument selects the case: `count SIZE`, `resize`,
// `shrink` or `report`.
#include <emscripten.h>
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t malloc_footprint(void);
size_t emmalloc_free_dynamic_memory(void);

enum { MIB = 1 << 20 };

// Has the number of blocks printed even if malloc aborts the program.
EM_JS(void, tell_at_abort, (void), {
  Module.blocks = 0;
  Module['onAbort'] = function() { out(Module.blocks + ' blocks'); };
});
EM_JS(void, count_block, (void), { Module.blocks++; });
EM_JS(void, tell, (void), { out(Module.blocks + ' blocks'); });

// Allocates blocks until malloc fails and prints their number. A call that succeeds must not set errno.
static void count(size_t size) {
  tell_at_abort();
  while (malloc(size)) {
    if (errno) printf("errno is set\n"), errno = 0;
    count_block();
  }
  tell();
}

// Grows the heap's last block. Two free areas have room for it only together with the run between them, which is empty
// but kept by its bin.
static void resize(void) {
  char *first = malloc(2 * MIB), *slots[999];
  int n = 0;
  do slots[n] = malloc(1000); while (slots[n++] < first);
  char *second = malloc(2 * MIB);
  malloc(4 * MIB + MIB / 2);
  char *last = malloc(MIB);
  free(first);
  free(slots[n - 1]);
  free(second);
  printf("%d\n", realloc(last, 3 * MIB + MIB / 2) == first);
}

static void fill(void) {
  for (size_t size = MIB; size; size /= 2) while (malloc(size));
  errno = 0;
}

static void shrink(void) {
  char *block = malloc(5000);
  fill();
  char *shrunk = realloc(block, 64);
  printf("%d %d\n", shrunk == block, errno);
}

static void report(void) {
  fill();
  size_t all = malloc_footprint(), rest = emmalloc_free_dynamic_memory();
  printf("%d %d %d\n", all > 10 * MIB, rest < MIB, errno);
}

int main(int argc, char **argv) {
  switch (argv[1][0]) {
  case 'c': count(atoi(argv[2])); break;
  case 'r': argv[1][2] == 's' ? resize() : report(); break;
  default: shrink();
  }
  return 0;
}
