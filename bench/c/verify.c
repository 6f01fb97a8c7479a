// Replays a workload and checks every result: blocks are aligned, lie inside memory, and are zero if calloc returned them.
// Each block is filled when it is allocated and compared when it is freed, which detects overlaps.
#include "workload.h"

enum fault { OK, IS_NULL, MISALIGNED, OUTSIDE, NOT_ZEROED, OVERWRITTEN, LOST_BY_REALLOC };

struct live {
  unsigned char *block;
  uint32_t size;
  uint32_t seed;
};

// The pattern differs between blocks, and between the words of a block. Whole words are written and read where possible.
static uint32_t pattern(uint32_t seed, uint32_t word) { return seed * 2654435761u + word * 40503u; }

static void fill(unsigned char *p, uint32_t from, uint32_t to, uint32_t seed) {
  uint32_t i = from;
  for (; i < to && (i & 3); i++) p[i] = (unsigned char)(pattern(seed, i / 4) >> (i % 4 * 8));
  for (; i + 4 <= to; i += 4) *(uint32_t *)(p + i) = pattern(seed, i / 4);
  for (; i < to; i++) p[i] = (unsigned char)(pattern(seed, i / 4) >> (i % 4 * 8));
}

static int holds(const unsigned char *p, uint32_t size, uint32_t seed) {
  uint32_t i = 0;
  for (; i + 4 <= size; i += 4)
    if (*(const uint32_t *)(p + i) != pattern(seed, i / 4)) return 0;
  for (; i < size; i++)
    if (p[i] != (unsigned char)(pattern(seed, i / 4) >> (i % 4 * 8))) return 0;
  return 1;
}

static enum fault check_place(const void *block, uint32_t size, uint32_t alignment, uintptr_t lowest) {
  uintptr_t address = (uintptr_t)block;
  uint64_t memory = (uint64_t)__builtin_wasm_memory_size(0) << 16;
  if (!block) return IS_NULL;
  if (address & (alignment - 1)) return MISALIGNED;
  // A block of size 0 may lie outside memory.
  if (size == 0) return OK;
  if (address < lowest || (uint64_t)address + size > memory) return OUTSIDE;
  return OK;
}

// The alignment that C17 6.2.8 requires for an object of this size, but at most 8: allocators that align to 8 pass.
static uint32_t least_alignment(uint32_t size) { return size < 2 ? 1 : size < 4 ? 2 : size < 8 ? 4 : 8; }

static uint32_t failed_at;
uint32_t EXPORT(failed_index)(void) { return failed_at; }

// Replays the operations from `op` to `end`. Returns the first fault, or OK; failed_index() then returns the operation's
// index. `lowest` is the lowest address that the heap may use. `live` has an entry for each slot, all zero.
int EXPORT(verify)(const struct op *op, const struct op *end, struct live *live, uintptr_t lowest) {
  uint32_t seed = 1;
  for (failed_at = 0; op != end; op++, failed_at++) {
    struct live *l = &live[op_slot(op)];
    uint32_t size = op->size, alignment = least_alignment(size), kept = 0;
    unsigned char *block = 0;
    switch (op_kind(op)) {
    case OP_FREE:
      if (!holds(l->block, l->size, l->seed)) return OVERWRITTEN;
      free(l->block);
      continue;
    case OP_MALLOC:
      block = malloc(size);
      break;
    case OP_CALLOC:
      block = calloc(1, size);
      break;
    case OP_REALLOC:
      if (!holds(l->block, l->size, l->seed)) return OVERWRITTEN;
      block = realloc(l->block, size);
      kept = l->size < size ? l->size : size;
      break;
    case OP_ALIGNED:
      size = aligned_size(op);
      alignment = aligned_alignment(op);
      posix_memalign((void **)&block, alignment, size);
      break;
    }
    enum fault fault = check_place(block, size, alignment, lowest);
    if (fault) return fault;
    if (op_kind(op) == OP_CALLOC)
      for (uint32_t i = 0; i < size; i++)
        if (block[i]) return NOT_ZEROED;
    if (kept && !holds(block, kept, l->seed)) return LOST_BY_REALLOC;
    if (op_kind(op) != OP_REALLOC) l->seed = seed++;
    l->block = block;
    l->size = size;
    fill(block, kept, size, l->seed);
  }
  return OK;
}
