// Makes a long random sequence of calls, and prints a hash of what a program can see of it: which calls succeed, what
// the blocks contain, and how errors are reported. Addresses, and usable sizes beyond those asked for, are not included,
// so the hash is the same with every allocator that conforms to the standards. With -DPREFIXED it calls the names with
// the prefix rsb, otherwise the standard ones.
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef PREFIXED
#include <rsbmallocc.h>
#define malloc rsbmalloc
#define free rsbfree
#define calloc rsbcalloc
#define realloc rsbrealloc
#define aligned_alloc rsbaligned_alloc
#define posix_memalign rsbposix_memalign
#endif

enum { SLOTS = 400, CALLS = 60000, LONGEST = 200000 };

static struct {
  unsigned char *block;
  size_t size;
  unsigned char fill;
} slots[SLOTS];

static uint32_t random_state = 12345;

static uint32_t random_below(uint32_t limit) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 17;
  random_state ^= random_state << 5;
  return random_state % limit;
}

// Sizes are mostly small, and sometimes large.
static size_t random_size(void) {
  static const uint32_t limits[] = {17, 65, 257, 1025, 5000, 20000, LONGEST};
  uint32_t chance = random_below(100);
  int range = (chance >= 30) + (chance >= 55) + (chance >= 75) + (chance >= 87) + (chance >= 94) + (chance >= 98);
  return random_below(limits[range]);
}

static int holds(const unsigned char *block, int byte, size_t size) {
  for (size_t i = 0; i < size; i++) {
    if (block[i] != byte) return 0;
  }
  return 1;
}

static uint32_t transcript = 2166136261u;

static void note(uint32_t event) { transcript = (transcript ^ event) * 16777619u; }

static void put(int slot, void *block, size_t size, size_t alignment) {
  note(block != NULL && (uintptr_t)block % alignment == 0);
  slots[slot].block = block;
  slots[slot].size = block ? size : 0;
  slots[slot].fill = (unsigned char)random_below(256);
  if (block) memset(block, slots[slot].fill, size);
}

static void drop(int slot) {
  note((uint32_t)holds(slots[slot].block, slots[slot].fill, slots[slot].size));
  free(slots[slot].block);
  slots[slot].block = NULL;
  slots[slot].size = 0;
}

static void resize(int slot, size_t size) {
  size_t kept = size < slots[slot].size ? size : slots[slot].size;
  unsigned char *block = realloc(slots[slot].block, size);
  note(block && holds(block, slots[slot].fill, kept));
  put(slot, block, size, 1);
}

int main(void) {
  void *unchanged = &transcript, *block;
  for (int call = 1; call <= CALLS; call++) {
    int slot = (int)random_below(SLOTS);
    size_t size = random_size(), alignment = (size_t)4 << random_below(14);
    uint32_t kind = random_below(10);
    note(kind);
    if (slots[slot].block) {
      // Never 0: what realloc does with a size of 0 is left to the implementation.
      if (kind < 4) resize(slot, size + 1);
      else drop(slot);
    } else if (kind < 5) {
      put(slot, malloc(size), size, 1);
    } else if (kind < 7) {
      unsigned char *zeros = calloc(size / 7 + 1, 7);
      note(zeros && holds(zeros, 0, size));
      put(slot, zeros, size, 1);
    } else if (kind < 8) {
      put(slot, aligned_alloc(alignment, size / alignment * alignment), size / alignment * alignment, alignment);
    } else if (kind < 9) {
      note((uint32_t)posix_memalign(&block, alignment, size));
      put(slot, block, size, alignment);
    } else {
      // Only these errors: dlmalloc does not notice every other one.
      errno = 0;
      block = calloc(SIZE_MAX / 2, 4);
      note(block == NULL);
      note((uint32_t)errno);
      note((uint32_t)posix_memalign(&unchanged, 12, size));
      note(unchanged == &transcript);
    }
    if (call % (CALLS / 10) == 0) printf("after %d calls: %08x\n", call, (unsigned)transcript);
  }
  for (int slot = 0; slot < SLOTS; slot++) drop(slot);
  printf("at the end: %08x\n", (unsigned)transcript);
  return 0;
}
