// Uses the prefixed names beside Emscripten's own malloc. Both grow the same memory.
#include <rsbmallocc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 200 };

int main(void) {
  char *theirs[ROUNDS], *ours[ROUNDS];
  for (int i = 0; i < ROUNDS; i++) {
    theirs[i] = memset(malloc(i * 997), i, i * 997);
    ours[i] = memset(rsbmalloc(i * 991), ~i, i * 991);
  }
  int wrong = 0;
  for (int i = 0; i < ROUNDS; i++) {
    for (int at = 0; at < i * 997; at++) wrong += theirs[i][at] != (char)i;
    for (int at = 0; at < i * 991; at++) wrong += ours[i][at] != (char)~i;
    free(theirs[i]);
    rsbfree(ours[i]);
  }
  printf("%d bytes wrong\n", wrong);
  return wrong != 0;
}
