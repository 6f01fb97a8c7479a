// A program without libc, errno and an entry point. It exports the function that the test calls.
#include <rsbmallocc.h>

__attribute__((export_name("fill"))) int fill(size_t size) {
  char *block = rsbmalloc(size);
  if (!block) return 0;
  for (size_t i = 0; i < size; i++) block[i] = 1;
  rsbfree(block);
  return 1;
}
