// Leaks blocks in several functions. With the argument `trap` it traps in the end, and with `loop` it never ends.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *kept[100];

__attribute__((noinline)) static char *copy_of(const char *text) {
  char *copy = malloc(strlen(text) + 1);
  return strcpy(copy, text);
}

__attribute__((noinline)) static void load_names(void) {
  for (int i = 0; i < 20; i++) kept[i] = copy_of("a name of twenty-eight bytes");
}

__attribute__((noinline)) static void load_table(void) {
  kept[20] = calloc(1000, 100);
  kept[21] = realloc(malloc(10), 5000);
}

int main(int argc, char **argv) {
  for (int i = 0; i < 1000; i++) free(malloc(i));
  load_names();
  load_table();
  for (int round = 0; round < 10; round++) {
    void *block = malloc(10000 << round);
    printf("round %d\n", round);
    fflush(stdout);
    free(block);
  }
  if (argc > 1 && !strcmp(argv[1], "trap")) abort();
  while (argc > 1 && !strcmp(argv[1], "loop"))
    for (volatile int i = 0; i < 1000; i++) continue;
  return 3;
}
