// Uses Emscripten's memory in many ways: grows it, calls sbrk itself, and allocates from JavaScript too. LIMITED is
// defined if memory has a limit at which malloc returns NULL instead of aborting.
#include <emscripten.h>
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK(condition)                                              \
  do {                                                                \
    if (!(condition)) {                                               \
      printf("line %d: %s does not hold\n", __LINE__, #condition);    \
      exit(1);                                                        \
    }                                                                 \
  } while (0)

// Exists in releases after 3.1.6, but their headers do not declare it.
void *_sbrk64(int64_t);

enum { SLOTS = 500, STEPS = 20000, SBRK_BYTES = 1001 };

EM_JS(void *, allocate_in_js, (int bytes, int value), {
  var block = _malloc(bytes);
  HEAPU8.fill(value, block, block + bytes);
  return block;
});

EM_JS(int, sum_in_js, (void *block, int bytes), {
  var sum = 0;
  for (var i = 0; i < bytes; i++) sum += HEAPU8[block + i];
  _free(block);
  return sum;
});

static uint32_t next(void) {
  static uint32_t state = 1;
  return state = state * 1664525u + 1013904223u;
}

static size_t random_size(void) {
  uint32_t kind = next() >> 29, size = next() >> 8;
  return kind < 6 ? size % 300 : kind == 6 ? size % 20000 : size % 100000;
}

static int filled(const unsigned char *block, size_t bytes, unsigned char value) {
  for (size_t i = 0; i < bytes; i++)
    if (block[i] != value) return 0;
  return 1;
}

// Checks that blocks keep their contents while other blocks, and memory taken by sbrk, come and go.
static void churn(void) {
  static unsigned char *blocks[SLOTS];
  static size_t sizes[SLOTS];
  unsigned char *foreign[8];
  int taken = 0;
  for (int step = 0; step < STEPS; step++) {
    int slot = (int)(next() >> 8) % SLOTS;
    unsigned char value = (unsigned char)slot;
    CHECK(filled(blocks[slot], sizes[slot], value));
    size_t size = random_size();
    switch (next() >> 30) {
    case 0:
      free(blocks[slot]);
      blocks[slot] = NULL;
      sizes[slot] = 0;
      continue;
    case 1:
      free(blocks[slot]);
      blocks[slot] = calloc(size, 1);
      CHECK(blocks[slot] && filled(blocks[slot], size, 0));
      break;
    default: {
      size_t kept = size < sizes[slot] ? size : sizes[slot];
      blocks[slot] = realloc(blocks[slot], size);
      CHECK(blocks[slot] && filled(blocks[slot], kept, value));
    }
    }
    CHECK((uintptr_t)blocks[slot] % (size > 15 ? 16 : size > 4 ? 8 : 4) == 0);
    memset(blocks[slot], value, size);
    sizes[slot] = size;
    if (step % (STEPS / 8) == 0) {
      foreign[taken] = taken % 2 ? sbrk(SBRK_BYTES) : _sbrk64(SBRK_BYTES);
      CHECK(foreign[taken] != (void *)-1);
      memset(foreign[taken++], 0xee, SBRK_BYTES);
    }
  }
  CHECK(_sbrk64(-SBRK_BYTES) == (void *)-1 && _sbrk64((int64_t)SIZE_MAX + 2) == (void *)-1);
  for (int i = 0; i < taken; i++) CHECK(filled(foreign[i], SBRK_BYTES, 0xee));
  for (int slot = 0; slot < SLOTS; slot++) free(blocks[slot]);
}

static void standard_calls(void) {
  void *block = NULL;
  CHECK(posix_memalign(&block, 65536, 10) == 0 && (uintptr_t)block % 65536 == 0);
  memset(block, 1, malloc_usable_size(block));
  free(block);
  CHECK(posix_memalign(&block, 3, 10) == EINVAL);
  errno = 0;
  CHECK(memalign(24, 10) == NULL && errno == EINVAL);
  errno = 0;
  CHECK(malloc((size_t)PTRDIFF_MAX + 1) == NULL && errno == ENOMEM);
  CHECK(calloc(SIZE_MAX / 2, 3) == NULL);
}

static void gnu_calls(void) {
  struct mallinfo before = mallinfo();
  void *block = malloc(100000);
  struct mallinfo during = mallinfo();
  CHECK(during.uordblks >= before.uordblks + 100000);
  CHECK(during.arena == during.uordblks + during.fordblks);
  free(block);
  struct mallinfo after = mallinfo();
  CHECK(after.uordblks == before.uordblks && after.usmblks >= during.uordblks);
  CHECK(mallopt(M_GRANULARITY, 1 << 16) == 0);
  malloc_stats();
}

#ifdef LIMITED
// Checks that malloc fails with ENOMEM when memory is out, and succeeds again after blocks are freed.
static void exhaust(void) {
  enum { PIECE = 100000 };
  void **list = NULL;
  int pieces = 0;
  errno = 0;
  for (void **piece; (piece = malloc(PIECE)); pieces++) {
    memset(piece, 0x11, PIECE);
    *piece = list;
    list = piece;
  }
  CHECK(errno == ENOMEM && pieces > 20);
  CHECK(realloc(list, (size_t)pieces * PIECE) == NULL);
  for (int i = 0; i < pieces / 2; i++) {
    void **following = *list;
    free(list);
    list = following;
  }
  for (int i = 0; i < pieces / 4; i++) {
    void **piece = malloc(PIECE);
    CHECK(piece);
    *piece = list;
    list = piece;
  }
  while (list) {
    void **following = *list;
    free(list);
    list = following;
  }
}
#endif

int main(void) {
  void *from_js = allocate_in_js(1000, 3);
  churn();
  // Fails if JavaScript still has a view of memory that was detached when memory grew: such a view is empty.
  CHECK(sum_in_js(from_js, 1000) == 3000);
  standard_calls();
  gnu_calls();
#ifdef LIMITED
  exhaust();
#endif
  void *last = allocate_in_js(100, 1);
  CHECK(sum_in_js(last, 100) == 100);
  puts("heap ok");
  return 0;
}
