// Checks every function of the C interface: what it promises, and how it fails. With -DPREFIXED it calls the names with
// the prefix rsb, otherwise the standard ones. Prints the checks that fail, and exits with their number.
#include <errno.h>
#include <rsbmallocc.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#ifdef PREFIXED
#define malloc rsbmalloc
// With a parameter, so that it does not replace the field `free` of struct rsbmallinfo.
#define free(block) rsbfree(block)
#define calloc rsbcalloc
#define realloc rsbrealloc
#define aligned_alloc rsbaligned_alloc
#define memalign rsbmemalign
#define posix_memalign rsbposix_memalign
#define valloc rsbvalloc
#define pvalloc rsbpvalloc
#define reallocarray rsbreallocarray
#define malloc_usable_size rsbmalloc_usable_size
#define free_sized rsbfree_sized
#define free_aligned_sized rsbfree_aligned_sized
#else
// Declared here because not every libc for wasm declares all of them.
void *malloc(size_t);
void free(void *);
void *calloc(size_t, size_t);
void *realloc(void *, size_t);
void *aligned_alloc(size_t, size_t);
void *memalign(size_t, size_t);
int posix_memalign(void **, size_t, size_t);
void *valloc(size_t);
void *pvalloc(size_t);
void *reallocarray(void *, size_t, size_t);
size_t malloc_usable_size(void *);
void free_sized(void *, size_t);
void free_aligned_sized(void *, size_t, size_t);
#endif

enum { SENTINEL = 77, WASM_PAGE = 65536, PAGE = 2048 };

static int failures;

static void check(int holds, const char *what, int line) {
  if (holds) return;
  failures++;
  printf("line %d: %s\n", line, what);
}

#define CHECK(condition) check(condition, #condition, __LINE__)

// Checks that `call` returns NULL and sets errno to `error`.
#define CHECK_FAILS(call, error)     \
  do {                               \
    errno = 0;                       \
    void *result = (call);           \
    int number = errno;              \
    CHECK(result == NULL && #call);  \
    CHECK(number == error && #call); \
  } while (0)

static size_t in_use(void) { return rsbmallinfo().in_use; }

static int aligned(const void *block, size_t alignment) { return block && (uintptr_t)block % alignment == 0; }

static int holds(const void *block, int byte, size_t size) {
  const unsigned char *bytes = block;
  for (size_t i = 0; i < size; i++) {
    if (bytes[i] != byte) return 0;
  }
  return 1;
}

// The alignment that C17 6.2.8 requires for objects of this size, and that clang assumes of operator new.
static size_t alignment_of_size(size_t size) { return size < 5 ? 4 : size < 16 ? 8 : 16; }

static const size_t SIZES[] = {0,    1,    4,    5,     8,     9,     15,    16,     17,     24,     100,    1000,
                               4095, 4096, 4097, 16383, 16384, 16385, 65535, 65536, 65537, 300000, 1 << 21};
enum { SIZE_COUNT = sizeof SIZES / sizeof *SIZES };

// Sizes above PTRDIFF_MAX, which no object can have. The last ones overflow if anything is added to them.
static const size_t TOO_LARGE[] = {(size_t)PTRDIFF_MAX + 1, SIZE_MAX - WASM_PAGE, SIZE_MAX - 16, SIZE_MAX};
enum { TOO_LARGE_COUNT = sizeof TOO_LARGE / sizeof *TOO_LARGE };

static const size_t NO_POWERS[] = {0, 3, 12, 24, 48, 4095, 12288, (size_t)PTRDIFF_MAX, SIZE_MAX - 3, SIZE_MAX};
enum { NO_POWER_COUNT = sizeof NO_POWERS / sizeof *NO_POWERS };

static void test_malloc(void) {
  unsigned char *blocks[SIZE_COUNT];
  for (int i = 0; i < SIZE_COUNT; i++) {
    blocks[i] = malloc(SIZES[i]);
    CHECK(aligned(blocks[i], alignment_of_size(SIZES[i])));
    CHECK(malloc_usable_size(blocks[i]) >= SIZES[i]);
    // Uses the block up to its last usable byte.
    memset(blocks[i], i, malloc_usable_size(blocks[i]));
  }
  for (int i = 0; i < SIZE_COUNT; i++) {
    CHECK(holds(blocks[i], i, malloc_usable_size(blocks[i])));
    free(blocks[i]);
  }
  void *nothing = malloc(0), *more_nothing = malloc(0);
  CHECK(nothing && more_nothing && nothing != more_nothing);
  free(nothing);
  free(more_nothing);
  for (int i = 0; i < TOO_LARGE_COUNT; i++) CHECK_FAILS(malloc(TOO_LARGE[i]), ENOMEM);
}

static void test_free(void) {
  errno = SENTINEL;
  free(NULL);
  void *small = malloc(10), *large = malloc(100000);
  free(small);
  free(large);
  CHECK(errno == SENTINEL);
}

static void test_calloc(void) {
  for (int round = 0; round < 2; round++) {
    for (int i = 0; i < SIZE_COUNT; i++) {
      unsigned char *block = calloc(1, SIZES[i]);
      CHECK(aligned(block, alignment_of_size(SIZES[i])));
      CHECK(holds(block, 0, SIZES[i]));
      // In the second round, calloc gets memory to which the first round wrote.
      memset(block, 255, malloc_usable_size(block));
      free(block);
    }
  }
  void *none = calloc(0, 10), *of_nothing = calloc(10, 0);
  CHECK(none && of_nothing && none != of_nothing);
  free(none);
  free(of_nothing);
  CHECK_FAILS(calloc(SIZE_MAX, 2), ENOMEM);
  CHECK_FAILS(calloc(65536, 65536), ENOMEM);
  CHECK_FAILS(calloc(65537, 65537), ENOMEM);
  CHECK_FAILS(calloc(2, (size_t)PTRDIFF_MAX), ENOMEM);
  CHECK_FAILS(calloc(1, (size_t)PTRDIFF_MAX + 1), ENOMEM);
}

static void test_realloc(void) {
  for (int from = 0; from < SIZE_COUNT; from++) {
    for (int to = 0; to < SIZE_COUNT; to++) {
      size_t kept = SIZES[from] < SIZES[to] ? SIZES[from] : SIZES[to];
      void *block = malloc(SIZES[from]);
      memset(block, 'r', SIZES[from]);
      block = realloc(block, SIZES[to]);
      CHECK(aligned(block, alignment_of_size(SIZES[to])));
      CHECK(holds(block, 'r', kept));
      CHECK(malloc_usable_size(block) >= SIZES[to]);
      free(block);
    }
  }
  void *block = realloc(NULL, 100);
  CHECK(aligned(block, 16));
  void *other = malloc(0);
  block = realloc(block, 0);
  CHECK(block && block != other);
  free(other);
  free(block);

  for (int i = 0; i < TOO_LARGE_COUNT; i++) {
    for (size_t size = 10; size <= 1000000; size *= 10) {
      block = malloc(size);
      memset(block, 'k', size);
      CHECK_FAILS(realloc(block, TOO_LARGE[i]), ENOMEM);
      CHECK(holds(block, 'k', size));
      free(block);
    }
    CHECK_FAILS(realloc(NULL, TOO_LARGE[i]), ENOMEM);
  }
}

static void test_reallocarray(void) {
  int *numbers = reallocarray(NULL, 10, sizeof *numbers);
  CHECK(aligned(numbers, 16));
  for (int i = 0; i < 10; i++) numbers[i] = i;
  numbers = reallocarray(numbers, 100000, sizeof *numbers);
  CHECK(numbers && numbers[9] == 9);
  CHECK_FAILS(reallocarray(numbers, SIZE_MAX / 2, 3), ENOMEM);
  CHECK_FAILS(reallocarray(numbers, 65536, 65536), ENOMEM);
  CHECK_FAILS(reallocarray(numbers, 2, (size_t)PTRDIFF_MAX), ENOMEM);
  CHECK(numbers[9] == 9);
  numbers = reallocarray(numbers, 0, sizeof *numbers);
  CHECK(numbers != NULL);
  free(numbers);
}

typedef void *aligned_function(size_t alignment, size_t size);

static void test_aligned(aligned_function *allocate) {
  // Every power of two is an alignment, whether or not the size is a multiple of it; free and realloc accept the block.
  for (size_t alignment = 1; alignment <= 1 << 22; alignment *= 2) {
    for (size_t size = 0; size <= 100000; size = size * 10 + 1) {
      unsigned char *block = allocate(alignment, size);
      CHECK(aligned(block, alignment) && aligned(block, alignment_of_size(size)));
      CHECK(malloc_usable_size(block) >= size);
      memset(block, 'a', malloc_usable_size(block));
      block = realloc(block, size + 5000);
      CHECK(block && holds(block, 'a', size));
      free(block);
    }
  }
  for (int i = 0; i < NO_POWER_COUNT; i++) CHECK_FAILS(allocate(NO_POWERS[i], 96), EINVAL);
  CHECK_FAILS(allocate((size_t)1 << 31, (size_t)PTRDIFF_MAX), ENOMEM);
  for (int i = 0; i < TOO_LARGE_COUNT; i++) {
    CHECK_FAILS(allocate(8, TOO_LARGE[i]), ENOMEM);
    CHECK_FAILS(allocate(65536, TOO_LARGE[i]), ENOMEM);
  }
}

static void test_posix_memalign(void) {
  errno = SENTINEL;
  for (size_t alignment = sizeof(void *); alignment <= 1 << 22; alignment *= 2) {
    for (size_t size = 0; size <= 100000; size = size * 10 + 1) {
      void *block = NULL;
      CHECK(posix_memalign(&block, alignment, size) == 0);
      CHECK(aligned(block, alignment) && aligned(block, alignment_of_size(size)));
      memset(block, 'p', malloc_usable_size(block));
      free(block);
    }
  }
  int here;
  void *block = &here;
  for (int i = 0; i < NO_POWER_COUNT; i++) CHECK(posix_memalign(&block, NO_POWERS[i], 96) == EINVAL);
  // These are not multiples of sizeof(void *).
  CHECK(posix_memalign(&block, 1, 96) == EINVAL);
  CHECK(posix_memalign(&block, 2, 96) == EINVAL);
  for (int i = 0; i < TOO_LARGE_COUNT; i++) {
    CHECK(posix_memalign(&block, 8, TOO_LARGE[i]) == ENOMEM);
    CHECK(posix_memalign(&block, 65536, TOO_LARGE[i]) == ENOMEM);
  }
  CHECK(block == &here);
  CHECK(errno == SENTINEL);
}

static void test_valloc(void) {
  for (int i = 0; i < SIZE_COUNT; i++) {
    void *block = valloc(SIZES[i]);
    CHECK(aligned(block, WASM_PAGE));
    CHECK(malloc_usable_size(block) >= SIZES[i]);
    free(block);
    void *pages = pvalloc(SIZES[i]);
    CHECK(aligned(pages, WASM_PAGE));
    size_t rounded = (SIZES[i] + WASM_PAGE - 1) / WASM_PAGE * WASM_PAGE;
    CHECK(malloc_usable_size(pages) >= rounded);
    memset(pages, 'v', malloc_usable_size(pages));
    free(pages);
  }
  for (int i = 0; i < TOO_LARGE_COUNT; i++) {
    CHECK_FAILS(valloc(TOO_LARGE[i]), ENOMEM);
    CHECK_FAILS(pvalloc(TOO_LARGE[i]), ENOMEM);
  }
}

static void test_sized_free(void) {
  errno = SENTINEL;
  free_sized(NULL, 0);
  free_aligned_sized(NULL, 64, 0);
  for (int i = 0; i < SIZE_COUNT; i++) {
    free_sized(malloc(SIZES[i]), SIZES[i]);
    free_sized(calloc(1, SIZES[i]), SIZES[i]);
    free_sized(realloc(malloc(50), SIZES[i]), SIZES[i]);
    for (size_t alignment = 1; alignment <= WASM_PAGE; alignment *= 8) {
      free_aligned_sized(aligned_alloc(alignment, SIZES[i]), alignment, SIZES[i]);
    }
  }
  CHECK(errno == SENTINEL);
}

static void test_usable_size(void) { CHECK(malloc_usable_size(NULL) == 0); }

static void test_pages(void) {
  for (int i = 0; i < SIZE_COUNT; i++) {
    for (size_t alignment = 1; alignment <= 1 << 20; alignment *= 4) {
      void *run = rsbpage_alloc(SIZES[i], alignment);
      CHECK(aligned(run, PAGE) && aligned(run, alignment));
      memset(run, 'p', SIZES[i]);
      run = rsbpage_realloc(run, SIZES[i] * 2 + 10);
      CHECK(aligned(run, PAGE) && holds(run, 'p', SIZES[i]));
      run = rsbpage_realloc(run, SIZES[i] / 2);
      CHECK(aligned(run, PAGE) && holds(run, 'p', SIZES[i] / 2));
      rsbpage_free(run);
    }
  }
  rsbpage_free(NULL);
  for (int i = 0; i < NO_POWER_COUNT; i++) CHECK_FAILS(rsbpage_alloc(100, NO_POWERS[i]), EINVAL);
  void *run = rsbpage_alloc(PAGE, PAGE);
  memset(run, 'p', PAGE);
  for (int i = 0; i < TOO_LARGE_COUNT; i++) {
    CHECK_FAILS(rsbpage_alloc(TOO_LARGE[i], PAGE), ENOMEM);
    CHECK_FAILS(rsbpage_realloc(run, TOO_LARGE[i]), ENOMEM);
  }
  CHECK(holds(run, 'p', PAGE));
  rsbpage_free(run);
}

static void test_info(void) {
  struct rsbmallinfo before = rsbmallinfo();
  void *block = malloc(5000);
  struct rsbmallinfo with = rsbmallinfo();
  CHECK(with.in_use >= before.in_use + 5000);
  CHECK(with.peak >= with.in_use);
  CHECK(with.heap == with.in_use + with.free);
  CHECK(with.bin_count > 0 && with.bin_count <= RSB_BINS);
  CHECK(with.bins[0].slot_size == 4 && with.bins[with.bin_count - 1].slot_size == 16384);
  free(block);
  CHECK(rsbmallinfo().in_use == before.in_use);
}

int main(void) {
  // These calls are made before the heap has its first block.
  CHECK(malloc_usable_size(NULL) == 0);
  free(NULL);
  free(malloc(1));
  size_t at_first = in_use();

  test_malloc();
  test_free();
  test_calloc();
  test_realloc();
  test_reallocarray();
  test_aligned(aligned_alloc);
  test_aligned(memalign);
  test_posix_memalign();
  test_valloc();
  test_sized_free();
  test_usable_size();
  test_pages();
  test_info();

  CHECK(in_use() == at_first);
  return failures;
}
