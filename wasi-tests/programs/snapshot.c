/* A reactor that fills its heap in `prepare`, before a snapshot is taken, and uses it further afterwards. */
#include <rsbmallocc.h>
#include <stdlib.h>
#include <string.h>

struct block {
  struct block *next;
  size_t size;
  unsigned char bytes[];
};

static struct block *blocks;
static unsigned seed = 1;

static unsigned next_number(unsigned below) {
  seed = seed * 1103515245 + 12345;
  return (seed >> 8) % below;
}

static int add(size_t size) {
  struct block *block = malloc(sizeof *block + size);
  if (block == NULL) return 0;
  block->next = blocks;
  block->size = size;
  memset(block->bytes, (unsigned char)size, size);
  blocks = block;
  return 1;
}

/* Frees every third block and allocates 300 new ones, `rounds` times. Returns 0 if memory is out. */
int churn(int rounds) {
  while (rounds-- > 0) {
    struct block **link = &blocks;
    for (int i = 0; *link != NULL; ++i) {
      struct block *block = *link;
      if (i % 3 == 0) {
        *link = block->next;
        free(block);
      } else {
        link = &block->next;
      }
    }
    for (int i = 0; i < 300; ++i)
      if (!add(next_number(i % 10 == 0 ? 100000 : 600))) return 0;
  }
  return 1;
}

void prepare(void) { churn(10); }

/* Returns the number of blocks, or 0 if the contents of one of them changed. */
int check(void) {
  int count = 0;
  for (struct block *block = blocks; block != NULL; block = block->next, ++count)
    for (size_t i = 0; i < block->size; ++i)
      if (block->bytes[i] != (unsigned char)block->size) return 0;
  return count;
}

size_t in_use(void) { return rsbmallinfo().in_use; }

void end(void) {
  while (blocks != NULL) {
    struct block *block = blocks;
    blocks = block->next;
    free(block);
  }
}
