// A yardstick: free lists and nothing else. It shows how fast such an allocator is if it never gives a page to another size
// and checks nothing. One byte per 4 KiB page tells which list the page's blocks belong to. Blocks of more than 1 KiB are
// rounded up to powers of two, each with a list.
#include <stddef.h>
#include <string.h>

enum { PAGE_BITS = 12, PAGE = 1 << PAGE_BITS, SMALL = 1024, LISTS = 64, LARGE = 32, PAGES = 1 << (30 - PAGE_BITS) };

typedef struct Block {
  struct Block *next;
} Block;

extern char __heap_base;

static Block *lists[LISTS];
static char *fresh[LARGE], *fresh_end[LARGE];
static unsigned slot_size[LARGE], list_of[SMALL / 4 + 1];
static unsigned char page_map[PAGES];

static unsigned page_of(const void *block) { return (size_t)block >> PAGE_BITS; }

/* Returns fresh pages for blocks of one list; NULL when memory is out. */
static char *new_pages(size_t bytes, unsigned list) {
  static size_t break_;
  if (!break_) break_ = ((size_t)&__heap_base + PAGE - 1) & -PAGE;
  size_t end = __builtin_wasm_memory_size(0) << 16;
  if (break_ + bytes > end && (int)__builtin_wasm_memory_grow(0, (break_ + bytes - end + 0xffff) >> 16) < 0) return NULL;
  char *pages = (char *)break_;
  break_ += bytes;
  memset(page_map + page_of(pages), list, bytes >> PAGE_BITS);
  return pages;
}

static void start(void) {
  unsigned list = 1;
  size_t size = 0;
  for (unsigned slot = 16; slot <= SMALL; slot += slot < 64 ? 16 : 1 << (29 - __builtin_clz(slot))) {
    slot_size[list] = slot;
    for (; size <= slot; size += 4) list_of[size / 4] = list;
    list++;
  }
}

static void *pop(unsigned list) {
  Block *block = lists[list];
  if (block) lists[list] = block->next;
  return block;
}

static __attribute__((noinline)) void *malloc_slow(size_t size) {
  if (!slot_size[1]) start();
  if (size > SMALL) {
    if (size > 1 << 28) return NULL;
    unsigned bits = size <= PAGE ? PAGE_BITS : 32 - __builtin_clz((unsigned)size - 1);
    void *block = pop(LARGE + bits);
    return block ? block : new_pages((size_t)1 << bits, LARGE + bits);
  }
  unsigned list = list_of[(size + 3) / 4];
  char *page = new_pages(PAGE, list);
  if (!page) return NULL;
  fresh[list] = page + slot_size[list];
  fresh_end[list] = page + PAGE / slot_size[list] * slot_size[list];
  return page;
}

void *malloc(size_t size) {
  if (size <= SMALL) {
    unsigned list = list_of[(size + 3) / 4];
    void *block = pop(list);
    if (block) return block;
    char *slot = fresh[list];
    if (slot != fresh_end[list]) {
      fresh[list] = slot + slot_size[list];
      return slot;
    }
  }
  return malloc_slow(size);
}

void free(void *ptr) {
  if (!ptr) return;
  Block *block = ptr, **list = &lists[page_map[page_of(block)]];
  block->next = *list;
  *list = block;
}

size_t malloc_usable_size(void *ptr) {
  if (!ptr) return 0;
  unsigned list = page_map[page_of(ptr)];
  return list < LARGE ? slot_size[list] : (size_t)1 << (list - LARGE);
}

void *realloc(void *ptr, size_t size) {
  size_t old = malloc_usable_size(ptr);
  if (ptr && size <= old && (old <= 64 || size >= old / 2)) return ptr;
  void *moved = malloc(size);
  if (!moved || !ptr) return moved;
  memcpy(moved, ptr, size < old ? size : old);
  free(ptr);
  return moved;
}

void *calloc(size_t count, size_t size) {
  void *block = malloc(count * size);
  return block ? memset(block, 0, count * size) : NULL;
}

/* Pages are aligned to their size. Greater alignments are not supported. */
void *aligned_alloc(size_t alignment, size_t size) {
  if (alignment > PAGE) return NULL;
  return malloc(alignment > 16 && size < PAGE ? PAGE : size);
}

int posix_memalign(void **memptr, size_t alignment, size_t size) {
  void *block = aligned_alloc(alignment, size);
  if (!block) return 48;
  *memptr = block;
  return 0;
}
