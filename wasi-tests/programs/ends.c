// Reads its input, writes to both output streams, and ends in the way that its first argument says.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int count, char **arguments) {
  char line[100] = "";
  char *way = count > 1 ? arguments[1] : "return";
  if (!fgets(line, sizeof line, stdin)) strcpy(line, "nothing");
  printf("read %s, %s\n", line, getenv("PLACE") ? getenv("PLACE") : "nowhere");
  fprintf(stderr, "about to %s\n", way);
  fflush(stdout);
  if (strcmp(way, "exit") == 0) exit(3);
  if (strcmp(way, "abort") == 0) abort();
  if (strcmp(way, "grow") == 0) return __builtin_wasm_memory_grow(0, 100) == (size_t)-1;
  return 0;
}

__attribute__((export_name("twice"))) int twice(int number) { return 2 * number; }
