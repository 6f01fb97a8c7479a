/*
 * Has one bug per run: hardened CASE KIND. The hardened library must trap in each case, in the function that
 * wasi-tests/hardened.test.ts expects. If a run gets to its end, the bug was not caught.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <rsbmallocc.h>

static char static_array[256];
static char *volatile p;
static size_t size;

/* Allocates a block of this kind, which the second argument names. */
static char *block_of(const char *kind) {
  char *block = NULL;
  if (!strcmp(kind, "tiny")) block = malloc(size = 1);
  else if (!strcmp(kind, "small")) block = malloc(size = 24);
  else if (!strcmp(kind, "full")) block = malloc(size = 44); /* fills its slot except for the trailer */
  else if (!strcmp(kind, "medium")) block = malloc(size = 3000);
  else if (!strcmp(kind, "large")) block = malloc(size = 100000);
  else if (!strcmp(kind, "pages")) block = malloc(size = 65536); /* a whole number of pages */
  else if (!strcmp(kind, "calloc")) block = calloc(10, (size = 500) / 10);
  else if (!strcmp(kind, "aligned")) block = aligned_alloc(256, size = 300);
  else if (!strcmp(kind, "over-aligned")) block = aligned_alloc(16384, size = 300);
  else if (!strcmp(kind, "grown")) block = realloc(malloc(40), size = 5000);
  else if (!strcmp(kind, "shrunk")) block = realloc(malloc(50000), size = 100);
  else if (!strcmp(kind, "resized")) block = realloc(malloc(90), size = 70); /* stays in its slot */
  else if (!strcmp(kind, "large-grown")) block = realloc(malloc(30000), size = 90000);
  else if (!strcmp(kind, "page_alloc")) block = rsbpage_alloc(size = 10000, 1);
  if (!block) {
    fprintf(stderr, "no block of kind %s\n", kind);
    exit(2);
  }
  return block;
}

/* Allocates more blocks of p's size until one lies at p's address. Returns it, or NULL after too many tries. */
static char *reuse(void) {
  int tries = size > 16384 ? 300 : 20000;
  for (int i = 0; i < tries; i++) {
    char *block = malloc(size);
    if (block == p || !block) return block;
    if (i % 2) free(block);
  }
  return NULL;
}

static void churn(int count) {
  for (int i = 0; i < count; i++) free(malloc(1 + i * 37 % 2000));
}

/* Frees that are wrong. */

static void double_free(void) {
  free(p);
  free(p);
}

static void double_free_later(void) {
  char *q = malloc(size), *r = malloc(size);
  free(p);
  free(q);
  free(r);
  free(p);
}

static void double_free_much_later(void) {
  free(p);
  churn(5000);
  free(p);
}

/* So many blocks are freed that they fill runs, and only the last of them are still in quarantine. */
static void double_free_of_many(void) {
  static char *blocks[1000];
  for (int i = 0; i < 1000; i++) blocks[i] = malloc(size);
  for (int i = 0; i < 1000; i++) free(blocks[i * 7 % 1000]);
  rsbmalloc_check();
  free(blocks[(uintptr_t)p / 16 * 37 % 900]);
}

static void double_free_through_alias(void) {
  char *alias = p;
  free(p);
  char *other = reuse();
  if (other != alias) return;
  free(alias);
  free(other);
}

static void realloc_after_free(void) {
  free(p);
  p = realloc(p, size * 2);
}

static void usable_size_after_free(void) {
  free(p);
  if (rsbmalloc_usable_size(p)) free(malloc(1));
}

static void double_free_sized(void) {
  free(p);
  rsbfree_sized(p, size);
}

static void free_interior(void) { free(p + 16); }
static void free_unaligned(void) { free(p + 1); }
static void free_near_end(void) { free(p + size - 1); }
static void free_before(void) { free(p - 8); }
static void free_far_before(void) { free(p - 16); }
static void realloc_interior(void) { p = realloc(p + 32, 100); }
static void usable_size_of_interior(void) { printf("%zu\n", rsbmalloc_usable_size(p + 32)); }

static void free_stack(void) {
  char array[64];
  p = array;
  free(p + (-(uintptr_t)array & 15));
}

static void free_static(void) {
  p = static_array;
  free(p + (-(uintptr_t)static_array & 15));
}

static void free_literal(void) { free((char *)((uintptr_t) "a text in the program" & -16)); }
static void free_function(void) { free((void *)(uintptr_t)&free_literal); }
static void free_far(void) { free(p + (512 << 20)); }
static void free_top(void) { free((void *)0xfffe0000u); }
static void free_first_page(void) { free((void *)16); }
static void free_behind_heap(void) { free((void *)(__builtin_wasm_memory_size(0) << 16)); }

static void free_never_allocated(void) {
  /* p is the only block of its size. The address is that of the other slot beside it, before or behind. */
  p = malloc(1000);
  free((char *)((uintptr_t)p ^ 1024));
}

static void free_never_allocated_tiny(void) {
  /* p is the only block of its size. Its page has 128 slots, and the address is in the half where no block is. */
  p = malloc(12);
  free((char *)((uintptr_t)p ^ 1024));
}

static void free_never_allocated_of_many(void) {
  /* Of the page's 128 slots, 70 are in use: one half and a few of the other. The loop finds a slot there that is not. */
  enum { COUNT = 70 };
  static char *blocks[COUNT];
  for (int i = 0; i < COUNT; i++) blocks[i] = malloc(12);
  char *slot = (char *)((uintptr_t)blocks[COUNT - 1] & -1024);
  for (int i = 0; i < COUNT; i++)
    if (blocks[i] == slot) {
      slot += 16;
      i = -1;
    }
  free(p = slot);
}

static void free_foreign(void) {
  uintptr_t page = __builtin_wasm_memory_grow(0, 1);
  free(malloc(300000));
  free((char *)(page << 16));
}

/* Writes outside blocks. */

static void put(char *at, size_t count, int byte) { memset(at, byte, count); }

static void overflow_zero(void) {
  put(p + size, 1, 0);
  free(p);
}

static void overflow_letter(void) {
  put(p + size, 1, 'A');
  free(p);
}

static void overflow_8(void) {
  put(p + size, 8, 'A');
  free(p);
}

static void overflow_32(void) {
  put(p + size, 32, 0xff);
  free(p);
}

static void overflow_page(void) {
  char *room = malloc(100000);
  put(p + size, 4096, 'A');
  free(p);
  free(room);
}

static void overflow_megabyte(void) {
  /* Makes sure that there is memory to write to. */
  char *room = malloc(8 << 20);
  put(p + size, 1 << 20, 'A');
  free(p);
  free(room);
}

static void overflow_realloc(void) {
  put(p + size, 1, 'A');
  p = realloc(p, size + 1000);
}

static void overflow_realloc_in_place(void) {
  put(p + size, 1, 'A');
  p = realloc(p, size - 1);
}

static void overflow_check(void) {
  put(p + size, 1, 'A');
  rsbmalloc_check();
}

static void overflow_sized(void) {
  put(p + size, 1, 'A');
  rsbfree_sized(p, size);
}

static void overflow_usable(void) {
  put(p + rsbmalloc_usable_size(p), 1, 0);
  free(p);
}

static void underflow_1(void) {
  put(p - 1, 1, 'A');
  rsbmalloc_check();
}

static void underflow_8(void) {
  put(p - 8, 8, 'A');
  rsbmalloc_check();
}

static void underflow_neighbours(void) {
  /* All blocks are freed, including the one whose end the write damaged. */
  enum { COUNT = 1000 };
  static char *blocks[COUNT];
  for (int i = 0; i < COUNT; i++) blocks[i] = malloc(size);
  put(blocks[COUNT / 2] - 4, 4, 'A');
  for (int i = 0; i < COUNT; i++) free(blocks[i]);
  free(p);
  reuse();
}

/* The size of the slot of a small block: the block, plus a guard and a trailer of four bytes together, rounded up. */
static size_t slot_size(void) { return (size + 4 + 15) & -16; }

/* Makes p a block that has another in the next slot. Returns that one. */
static char *neighbours(void) {
  enum { COUNT = 100 };
  static char *blocks[COUNT];
  for (int i = 0; i < COUNT; i++) blocks[i] = malloc(size);
  for (int i = 0; i < COUNT; i++)
    for (int j = 0; j < COUNT; j++)
      if (blocks[j] == blocks[i] + slot_size()) {
        p = blocks[i];
        return blocks[j];
      }
  exit(2);
}

/* Writes directly before a block whose neighbour there is in quarantine. */
static void underflow_beside_waiting(void) {
  char *behind = neighbours();
  free(p);
  put(behind - 1, 1, 'A');
  rsbmalloc_check();
}

/* Writes zeros from the block's end to the end of its slot, and then letters into the next slot, which is free. */
static void overflow_zeros_first(void) {
  char *behind = neighbours();
  free(behind);
  put(p + size, behind - p - size, 0);
  put(behind, 8, 'A');
  for (int i = 0; i < 300; i++) free(malloc(size));
  for (int i = 0; i < 500; i++) behind = malloc(size);
}

/* Writes past the end what stands past the end of another block of the same size. */
static void copied_tail(void) {
  char *other = malloc(size);
  memcpy(p + size, other + size, slot_size() - size);
  free(p);
}

/* The block of 130 bytes lies in a slot of 160; the write is behind the guard. */
static void overflow_behind_guard(void) {
  p = malloc(size = 130);
  put(p + 142, 1, 'A');
  free(p);
}

/* Zeros the whole slot, so that it looks like a free one. */
static void overflow_zeros(void) {
  put(p, slot_size(), 0);
  free(p);
}

static void overflow_zeros_check(void) {
  put(p, slot_size(), 0);
  rsbmalloc_check();
}

/* Writes to the rest of a slot of 16 bytes, but not directly behind the block. */
static void overflow_further(void) {
  put(p + 10, 1, 'A');
  rsbmalloc_check();
}

static void overflow_further_then_free(void) {
  put(p + 10, 1, 'A');
  free(p);
}

/* If memory grows for p, the heap's own data may lie right before it. */
static void underflow_large(void) {
  char *before = malloc(2 * size);
  p = malloc(2 * size);
  put(p - 8, 8, 'A');
  free(before);
  free(p);
}

static void overflow_into_free(void) {
  /* The neighbouring memory is free when p overflows into it, and reused before p is freed. */
  free(malloc(size));
  put(p + size, 16, 'A');
  reuse();
  free(p);
}

/* Writes to freed blocks. */

static void write_first(void) {
  free(p);
  put(p, 1, 'A');
  rsbmalloc_check();
}

static void write_middle(void) {
  free(p);
  put(p + size / 2, 1, 'A');
  rsbmalloc_check();
}

static void write_last(void) {
  free(p);
  put(p + size - 1, 1, 'A');
  rsbmalloc_check();
}

static void write_all_then_reuse(void) {
  free(p);
  put(p, size, 'A');
  reuse();
}

static void write_then_reuse(void) {
  free(p);
  put(p + size / 2, 1, 1);
  reuse();
}

static void write_after_move(void) {
  /* The block behind p keeps it from growing in place. */
  char *stale = p, *wall = malloc(size);
  p = realloc(p, size * 30);
  free(wall);
  if (p == stale) exit(2);
  put(stale + size / 2, 1, 'A');
  rsbmalloc_check();
}

static void write_much_later(void) {
  free(p);
  churn(5000);
  /* The memory may have any other use and contents by now: this changes the byte whatever it is. */
  p[size / 2] ^= 'A';
  rsbmalloc_check();
}

/* Writes to a freed block whose memory small blocks use afterwards. */
static void write_then_slots(void) {
  char *other = malloc(size);
  free(p);
  put(p, size, 'A');
  for (int i = 0; i < 2000; i++) other = malloc(100);
}

/* Writes to a freed block to whose memory the heap's own data move. */
static void write_then_map(void) {
  char *freed = malloc(60000), *behind = malloc(100);
  free(freed);
  put(freed + 16, 34, 'A');
  for (int i = 0; i < 400; i++) p = malloc(700000);
  free(behind);
  rsbmalloc_check();
}

/* Writes to a freed block over which the one before it grows. */
static void write_then_growth(void) {
  char *block = malloc(30000), *freed = malloc(30000), *last = malloc(30000);
  if (freed < block || freed > block + 40000) return;
  free(freed);
  freed[1000] = 'A';
  p = realloc(block, 50000);
  free(last);
}

/* Writes an address in the program's data where free lists have their links, as an attacker would. */
static void forged_link(void) {
  free(p);
  churn(200);
  for (int i = 0; i < 200; i++) free(malloc(size));
  char *target = static_array;
  memcpy(p, &target, sizeof target);
  reuse();
}

/* The heap's own data lie behind the program's, so an overflow of an array may damage them. */
static void overflow_static(void) {
  extern char __heap_base;
  put(&__heap_base + 16, 16, 'A');
  rsbmalloc_check();
}

/* Frees with a size or alignment that is not the block's. */

static void sized_larger(void) { rsbfree_sized(p, size + 1); }
static void sized_smaller(void) { rsbfree_sized(p, size - 1); }
static void aligned_sized_larger(void) { rsbfree_aligned_sized(p, 256, size + 1); }
static void aligned_sized_alignment(void) { rsbfree_aligned_sized(p, 128, size); }
static void aligned_sized_of_malloc(void) { rsbfree_aligned_sized(p, 64, size); }

/* Zero-size blocks. */

static void zero_write(void) {
  p = malloc(0);
  *p = 1;
}

static void zero_read(void) {
  p = calloc(0, 8);
  printf("%d\n", *p);
}

static void zero_realloc_write(void) {
  p = realloc(p, 0);
  *p = 1;
}

static void zero_aligned_write(void) {
  p = aligned_alloc(64, 0);
  *p = 1;
}

static void zero_size_after_free(void) {
  p = malloc(0);
  free(p);
  if (rsbmalloc_usable_size(p)) free(malloc(1));
}

static void zero_size_unaligned(void) {
  p = malloc(0);
  if (rsbmalloc_usable_size(p + 8)) free(malloc(1));
}

static void zero_double_free(void) {
  p = malloc(0);
  free(p);
  free(p);
}

static void zero_invalid_free(void) {
  p = malloc(0);
  free(p + 16 * 4000);
}

static void zero_unaligned_free(void) {
  p = malloc(0);
  free(p + 1);
}

static void zero_sized(void) {
  p = malloc(0);
  rsbfree_sized(p, 1);
}

static const struct {
  const char *name;
  void (*run)(void);
} cases[] = {
#define CASE(name) {#name, name}
    CASE(double_free), CASE(double_free_later), CASE(double_free_much_later), CASE(double_free_of_many),
    CASE(double_free_through_alias), CASE(realloc_after_free), CASE(usable_size_after_free),
    CASE(double_free_sized), CASE(free_interior), CASE(free_unaligned), CASE(free_near_end), CASE(free_before),
    CASE(free_far_before), CASE(realloc_interior), CASE(usable_size_of_interior), CASE(free_stack),
    CASE(free_static), CASE(free_literal), CASE(free_function), CASE(free_far), CASE(free_top),
    CASE(free_first_page), CASE(free_behind_heap), CASE(free_never_allocated), CASE(free_never_allocated_tiny),
    CASE(free_never_allocated_of_many), CASE(free_foreign), CASE(overflow_zero), CASE(overflow_letter),
    CASE(overflow_8), CASE(overflow_32), CASE(overflow_page), CASE(overflow_megabyte), CASE(overflow_realloc),
    CASE(overflow_realloc_in_place), CASE(overflow_check), CASE(overflow_sized), CASE(overflow_usable),
    CASE(underflow_1), CASE(underflow_8), CASE(underflow_neighbours), CASE(underflow_beside_waiting),
    CASE(overflow_zeros_first), CASE(underflow_large), CASE(overflow_further), CASE(overflow_further_then_free),
    CASE(overflow_behind_guard), CASE(overflow_zeros), CASE(overflow_zeros_check), CASE(overflow_into_free),
    CASE(write_first), CASE(write_middle), CASE(write_last), CASE(write_all_then_reuse), CASE(write_then_reuse),
    CASE(write_after_move), CASE(write_then_slots), CASE(write_then_growth), CASE(write_then_map),
    CASE(write_much_later), CASE(forged_link), CASE(copied_tail), CASE(overflow_static), CASE(sized_larger),
    CASE(sized_smaller), CASE(aligned_sized_larger), CASE(aligned_sized_alignment),
    CASE(aligned_sized_of_malloc), CASE(zero_write), CASE(zero_read), CASE(zero_realloc_write),
    CASE(zero_aligned_write), CASE(zero_double_free), CASE(zero_size_after_free), CASE(zero_size_unaligned),
    CASE(zero_invalid_free), CASE(zero_unaligned_free), CASE(zero_sized),
};

/* The library calls this before it traps. */
void rsbmalloc_on_fault(const char *message, void *pointer, size_t bytes) {
  printf("%s: %s block, %zu bytes\n", message, pointer == p ? "the" : "another", bytes);
  fflush(stdout);
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  p = block_of(argv[2]);
  memset(p, 7, size);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    if (!strcmp(argv[1], cases[i].name)) {
      cases[i].run();
      printf("not caught\n");
      return 0;
    }
  }
  fprintf(stderr, "no case %s\n", argv[1]);
  return 2;
}
