// Defines its own reallocarray and valloc, which are not part of C, and wraps malloc with the linker's --wrap.
// Exits with 0, or with the number of the first check that failed.
#include <rsbmallocc.h>
#include <stdlib.h>

static char storage[16];
static int wrapped;

void *reallocarray(void *block, size_t count, size_t size) {
  (void)block, (void)count, (void)size;
  return storage;
}

void *valloc(size_t size) {
  (void)size;
  return storage + 1;
}

void *__real_malloc(size_t);

void *__wrap_malloc(size_t size) {
  wrapped++;
  return __real_malloc(size);
}

int main(void) {
  if (reallocarray(NULL, 1, 1) != storage) return 1;
  if (valloc(1) != storage + 1) return 2;
  char *volatile block = malloc(10);
  if (!block || wrapped != 1) return 3;
  free(block);
  // The library's own functions do not call the program's wrapper when they allocate.
  free(calloc(1, 10));
  free(realloc(NULL, 10));
  rsbfree(rsbvalloc(10));
  return wrapped == 1 ? 0 : 4;
}
