// A side module, whose calls of malloc and free go to the main module.
#include <stdlib.h>
#include <string.h>

/* Allocates a block, grows it to `size` bytes, and sets each of them to `value`. */
char *make_block(int size, char value) {
  char *block = malloc(size / 2);
  if (block) block = realloc(block, size);
  if (block) memset(block, value, size);
  return block;
}

int free_sum(char *block, int size) {
  int sum = 0;
  for (int i = 0; i < size; i++) sum += block[i];
  free(block);
  return sum;
}

void free_twice(void) {
  char *block = malloc(100);
  free(block);
  free(block);
}
