// A program with the usual seven functions. Its size less that with a stub is what the allocator adds.
#include "workload.h"

void *aligned_alloc(size_t, size_t);
size_t malloc_usable_size(void *);

void *EXPORT(call)(int function, void *block, size_t a, size_t b) {
  void *result = block;
  switch (function) {
  case 0: return malloc(a);
  case 1: return calloc(a, b);
  case 2: return realloc(block, a);
  case 3: return aligned_alloc(a, b);
  case 4: return posix_memalign(&result, a, b) ? NULL : result;
  case 5: return (void *)malloc_usable_size(block);
  default: free(block); return NULL;
  }
}
