// A program from which a snapshot is taken after it has allocated.
#include <stdlib.h>

void *kept;

void prepare(void) { kept = malloc(100); }

int use(void) {
  free(kept);
  return malloc(10) != NULL;
}
