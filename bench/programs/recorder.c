// Linked into a program with --wrap: reports every call by the program and its libraries to the host.
#include "workload.h"

#define HOST(name) __attribute__((import_module("trace"), import_name(#name)))

HOST(allocated) void trace_allocated(int kind, void *block, size_t size, size_t alignment);
HOST(resized) void trace_resized(void *old, void *block, size_t size);
HOST(freed) void trace_freed(void *block);

void *__real_malloc(size_t);
void *__real_calloc(size_t, size_t);
void *__real_realloc(void *, size_t);
void *__real_aligned_alloc(size_t, size_t);
int __real_posix_memalign(void **, size_t, size_t);
void __real_free(void *);

void *__wrap_malloc(size_t size) {
  void *block = __real_malloc(size);
  trace_allocated(OP_MALLOC, block, size, 0);
  return block;
}

void *__wrap_calloc(size_t count, size_t size) {
  void *block = __real_calloc(count, size);
  trace_allocated(OP_CALLOC, block, count * size, 0);
  return block;
}

void __wrap_free(void *block) {
  if (!block) return;
  trace_freed(block);
  __real_free(block);
}

void *__wrap_realloc(void *old, size_t size) {
  if (!old) return __wrap_malloc(size);
  if (!size) {
    __wrap_free(old);
    return NULL;
  }
  void *block = __real_realloc(old, size);
  trace_resized(old, block, size);
  return block;
}

void *__wrap_aligned_alloc(size_t alignment, size_t size) {
  void *block = __real_aligned_alloc(alignment, size);
  trace_allocated(OP_ALIGNED, block, size, alignment);
  return block;
}

int __wrap_posix_memalign(void **memptr, size_t alignment, size_t size) {
  int error = __real_posix_memalign(memptr, alignment, size);
  if (!error) trace_allocated(OP_ALIGNED, *memptr, size, alignment);
  return error;
}
