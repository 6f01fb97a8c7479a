// Defines malloc and uses another function of the library, so that malloc is defined twice.
#include <rsbmallocc.h>
#include <stdlib.h>

static char storage[16];

void *malloc(size_t size) {
  (void)size;
  return storage;
}

int main(void) {
  char *volatile block = malloc(1);
  return block == rsbmalloc(1);
}
