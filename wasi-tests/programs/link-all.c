// Uses every name that librsbmallocc.a defines, and libc functions that allocate. Exits with 0, or with the number of the
// first check that failed.
#define _GNU_SOURCE
#include <errno.h>
#include <rsbmallocc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *memalign(size_t, size_t);
void *valloc(size_t);
void *pvalloc(size_t);
size_t malloc_usable_size(void *);
void free_sized(void *, size_t);
void free_aligned_sized(void *, size_t, size_t);
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void __libc_free(void *);

#define CHECK(number, condition) \
  if (!(condition)) return number

static size_t in_use(void) { return rsbmallinfo().in_use; }

static int aligned(void *block, size_t alignment) { return block && (uintptr_t)block % alignment == 0; }

int check(void) {
  volatile size_t too_much = SIZE_MAX / 2 + 2;
  size_t before = in_use();
  char *block = malloc(3000);
  CHECK(1, block && in_use() >= before + 3000);
  memset(block, 1, malloc_usable_size(block));
  CHECK(2, rsbmalloc_usable_size(block) == malloc_usable_size(block));
  block = realloc(block, 9000);
  CHECK(3, block && block[2999] == 1);
  rsbfree(block);

  errno = 0;
  CHECK(4, malloc(too_much) == NULL && errno == ENOMEM);
  errno = 0;
  CHECK(5, aligned_alloc(3, 8) == NULL && errno == EINVAL);

  block = aligned_alloc(256, 300);
  CHECK(6, aligned(block, 256));
  free_aligned_sized(block, 256, 300);
  block = memalign(64, 100);
  CHECK(7, aligned(block, 64));
  free(block);
  void *result = NULL;
  CHECK(8, posix_memalign(&result, 512, 10) == 0 && aligned(result, 512));
  free(result);
  block = valloc(10);
  CHECK(9, aligned(block, 65536));
  free(block);
  block = pvalloc(10);
  CHECK(10, aligned(block, 65536) && malloc_usable_size(block) >= 65536);
  free(block);
  block = reallocarray(NULL, 10, 20);
  CHECK(11, block && malloc_usable_size(block) >= 200);
  free_sized(block, 200);
  block = calloc(5, 5);
  CHECK(12, block && block[24] == 0);
  free(block);
  block = __libc_calloc(5, 5);
  CHECK(13, block && block[24] == 0);
  __libc_free(block);
  __libc_free(__libc_malloc(1));
  block = rsbpage_alloc(10000, 8192);
  CHECK(14, aligned(block, 8192));
  block = rsbpage_realloc(block, 100000);
  CHECK(15, aligned(block, 2048));
  rsbpage_free(block);

  char *copy = strdup("copy");
  CHECK(16, copy && strcmp(copy, "copy") == 0);
  free(copy);
  char *text = NULL;
  CHECK(17, asprintf(&text, "%d", 42) == 2 && strcmp(text, "42") == 0);
  free(text);
  CHECK(18, in_use() <= before + 1024);
  return 0;
}

#ifdef REACTOR
__attribute__((export_name("check"))) int exported_check(void) { return check(); }
#else
int main(void) { return check(); }
#endif
