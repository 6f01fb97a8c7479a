// A program that takes memory with sbrk itself, besides its malloc.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROUNDS = 200, BLOCK = 5000, PIECE = 4096 };

int main(void) {
  char *blocks[ROUNDS], *pieces[ROUNDS];
  for (int i = 0; i < ROUNDS; i++) {
    blocks[i] = memset(malloc(BLOCK), i, BLOCK);
    pieces[i] = memset(sbrk(PIECE), ~i, PIECE);
  }
  int wrong = 0;
  for (int i = 0; i < ROUNDS; i++) {
    for (int at = 0; at < BLOCK; at++) wrong += blocks[i][at] != (char)i;
    for (int at = 0; at < PIECE; at++) wrong += pieces[i][at] != (char)~i;
    free(blocks[i]);
  }
  printf("%d bytes wrong\n", wrong);
  return wrong != 0;
}
