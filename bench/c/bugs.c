/*
 * Programs with memory bugs, one for each argument of run_bug(). An allocator catches a bug if it traps or ends the program.
 * Where there is nothing to trap at, it is also caught if it does no harm: run_bug() then returns CAUGHT.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT(name) __attribute__((export_name(#name))) name

enum { MISSED, CAUGHT };
enum { SMALL = 24, LARGE = 200000 };

/* From C23. With an allocator that lacks them, free is called instead. */
void free_sized(void *, size_t) __attribute__((weak));
void free_aligned_sized(void *, size_t, size_t) __attribute__((weak));
size_t malloc_usable_size(void *);

static char *volatile p;
static char *volatile q;
static char area[256];

/* Lets the program go on: it allocates blocks, uses them and frees them. */
static int go_on(size_t size) {
  static char *blocks[64];
  for (int round = 0; round < 200; round++) {
    char **block = &blocks[round % 64];
    free(*block);
    *block = malloc(round % 3 ? size : 1 + size / 2);
    if (*block) memset(*block, round, 1 + size / 2);
  }
  for (int i = 0; i < 64; i++) {
    free(blocks[i]);
    blocks[i] = NULL;
  }
  return MISSED;
}

static int free_again(size_t size) {
  p = malloc(size);
  free(p);
  free(p);
  return go_on(size);
}

static int free_again_later(size_t size) {
  p = malloc(size);
  q = malloc(size);
  free(p);
  free(q);
  free(p);
  return go_on(size);
}

static int free_reused(size_t size) {
  p = malloc(size);
  free(p);
  for (int i = 0; i < 20; i++) q = malloc(size);
  if (q == p) free(q);
  free(p);
  free(p);
  return go_on(size);
}

static int free_inside(size_t size, size_t offset) {
  p = malloc(size);
  free(p + offset);
  return go_on(size);
}

static int free_at(void *pointer) {
  p = malloc(SMALL);
  free(pointer);
  return go_on(SMALL);
}

static int write_beyond(size_t size, ptrdiff_t from, size_t count) {
  q = malloc(size);
  p = malloc(size);
  char *next = malloc(size);
  memset(p + from, 'A', count);
  free(q);
  free(p);
  free(next);
  return go_on(size);
}

static int write_after(size_t size, size_t at) {
  p = malloc(size);
  q = malloc(size);
  free(p);
  memset(p + at, 'A', 8);
  return go_on(size);
}

static int all_zero(const char *block, size_t size) {
  for (size_t i = 0; i < size; i++)
    if (block[i]) return 0;
  return 1;
}

static int read_after(size_t size) {
  p = malloc(size);
  memset(p, 's', size);
  free(p);
  return all_zero(p, size) ? CAUGHT : MISSED;
}

static int read_fresh(size_t size) {
  for (int i = 0; i < 100; i++) {
    p = malloc(size);
    memset(p, 's', size);
    free(p);
  }
  for (int i = 0; i < 100; i++)
    if (!all_zero(malloc(size), size)) return MISSED;
  return CAUGHT;
}

static char *fresh_pointer(void) {
  for (int i = 0; i < 100; i++) {
    p = malloc(SMALL);
    for (int at = 0; at < SMALL; at += 4) memcpy(p + at, &(char *){area + 16}, 4);
    free(p);
  }
  char *read;
  memcpy(&read, malloc(SMALL) + 8, sizeof read);
  return read;
}

static int size_of(char *block) {
  volatile size_t size = malloc_usable_size(block);
  (void)size;
  return MISSED;
}

static int reuse(size_t size) {
  p = malloc(size);
  free(p);
  q = malloc(size);
  return q == p ? MISSED : CAUGHT;
}

static int resize_freed(size_t size) {
  p = malloc(size);
  free(p);
  p = realloc(p, 2 * size);
  return go_on(size);
}

static int write_moved(size_t size) {
  p = malloc(size);
  q = malloc(size);
  char *moved = realloc(p, 40 * size);
  memset(p, 'A', size);
  free(moved);
  return go_on(size);
}

static int sized(size_t size, size_t other) {
  p = malloc(size);
  if (free_sized) free_sized(p, other);
  else free(p);
  return go_on(size);
}

static int aligned(size_t size, size_t other) {
  p = aligned_alloc(64, size);
  if (free_aligned_sized) free_aligned_sized(p, other, size);
  else free(p);
  return go_on(size);
}

static char *grown(void) { return (char *)(__builtin_wasm_memory_grow(0, 1) << 16); }

static int freed_size(size_t size) {
  p = malloc(size);
  free(p);
  return size_of(p);
}

static int of_no_bytes(int writes) {
  p = malloc(0);
  if (writes) p[0] = 1;
  return p[0] == 42 ? CAUGHT : go_on(1);
}

#define BUGS(BUG) \
  BUG("double free, small", free_again(SMALL)) \
  BUG("double free, large", free_again(LARGE)) \
  BUG("double free after another free, small", free_again_later(SMALL)) \
  BUG("double free after another free, large", free_again_later(LARGE)) \
  BUG("double free after allocations, small", free_reused(SMALL)) \
  BUG("realloc of a freed block, small", resize_freed(SMALL)) \
  BUG("realloc of a freed block, large", resize_freed(LARGE)) \
  BUG("free of an unaligned pointer, small", free_inside(SMALL, 1)) \
  BUG("free of an unaligned pointer, large", free_inside(LARGE, 1)) \
  BUG("free of an interior pointer, small", free_inside(96, 32)) \
  BUG("free of an interior pointer, large", free_inside(LARGE, 4096)) \
  BUG("free of memory not from malloc", free_at(grown() + 64)) \
  BUG("free of a static array", free_at(area + 64)) \
  BUG("free of a pointer far away", free_at((char *)0x70000000)) \
  BUG("free of a slot never allocated", free_inside(48, 48 * 20)) \
  BUG("free of a slot never allocated, far", free_inside(48, 1 << 15)) \
  BUG("write of 1 byte past the end, small", write_beyond(SMALL, SMALL, 1)) \
  BUG("write of 1 byte past the end, large", write_beyond(LARGE, LARGE, 1)) \
  BUG("write of 8 bytes past the end, small", write_beyond(SMALL, SMALL, 8)) \
  BUG("write of 8 bytes past the end, large", write_beyond(LARGE, LARGE, 8)) \
  BUG("write of 32 bytes past the end, small", write_beyond(SMALL, SMALL, 32)) \
  BUG("write of 8 bytes before the start, small", write_beyond(SMALL, -8, 8)) \
  BUG("write of 8 bytes before the start, large", write_beyond(LARGE, -8, 8)) \
  BUG("string copy past the end, small", write_beyond(SMALL, 0, SMALL + 2)) \
  BUG("write after free, small", write_after(SMALL, 8)) \
  BUG("write after free, large", write_after(LARGE, 100000)) \
  BUG("write to a freed block's first word, small", write_after(SMALL, 0)) \
  BUG("write to a block that realloc moved", write_moved(SMALL)) \
  BUG("read after free, small", read_after(SMALL)) \
  BUG("read after free, large", read_after(LARGE)) \
  BUG("read of fresh memory, small", read_fresh(SMALL)) \
  BUG("read of fresh memory, large", read_fresh(LARGE)) \
  BUG("use of a pointer in fresh memory", fresh_pointer() ? MISSED : CAUGHT) \
  BUG("read of a block of size 0", of_no_bytes(0)) \
  BUG("write to a block of size 0", of_no_bytes(1)) \
  BUG("size of an unaligned pointer", size_of((char *)malloc(SMALL) + 1)) \
  BUG("size of a slot never allocated", size_of((char *)malloc(48) + 48 * 20)) \
  BUG("size of a freed block, small", freed_size(SMALL)) \
  BUG("size of a freed block, large", freed_size(LARGE)) \
  BUG("free_sized with a wrong size, small", sized(SMALL, SMALL + 40)) \
  BUG("free_sized with a wrong size, large", sized(LARGE, SMALL)) \
  BUG("free_aligned_sized with a wrong alignment, small", aligned(128, 128)) \
  BUG("free_aligned_sized with a wrong alignment, large", aligned(1 << 18, 4096)) \
  BUG("freed address reused at once, small", reuse(SMALL)) \
  BUG("freed address reused at once, large", reuse(LARGE)) \
  BUG("two blocks of size 0 at one address", malloc(0) == malloc(0) ? MISSED : CAUGHT) \
  BUG("malloc of more than PTRDIFF_MAX bytes", malloc(SIZE_MAX / 2 + 1) ? MISSED : CAUGHT)

const char *EXPORT(bug_name)(int bug) {
  enum { START = __COUNTER__ + 1 };
#define NAME(name, run) case __COUNTER__ - START: return name;
  switch (bug) { BUGS(NAME) }
  return NULL;
}

int EXPORT(run_bug)(int bug) {
  enum { START = __COUNTER__ + 1 };
#define RUN(name, run) case __COUNTER__ - START: return run;
  switch (bug) { BUGS(RUN) }
  return MISSED;
}
