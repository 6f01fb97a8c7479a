// A program that uses only malloc and free.
#include "workload.h"

void *EXPORT(call)(void *block, size_t size) {
  if (size) return malloc(size);
  free(block);
  return NULL;
}
