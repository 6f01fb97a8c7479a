// Replays a workload as fast as it can: what is left when the null allocator's time is taken off is the allocator's.
#include "workload.h"

void EXPORT(replay)(const struct op *op, const struct op *end, void **blocks) {
  for (; op != end; op++) {
    void **block = &blocks[op_slot(op)];
    switch (op_kind(op)) {
    case OP_MALLOC:
      *block = malloc(op->size);
      break;
    case OP_FREE:
      free(*block);
      break;
    case OP_CALLOC:
      *block = calloc(1, op->size);
      break;
    case OP_REALLOC:
      *block = realloc(*block, op->size);
      break;
    case OP_ALIGNED:
      posix_memalign(block, aligned_alignment(op), aligned_size(op));
      break;
    }
  }
}

// The same, and writes the first byte of each block: what a program's first use of a block costs is in the time.
void EXPORT(replay_touch)(const struct op *op, const struct op *end, void **blocks) {
  for (; op != end; op++) {
    void **block = &blocks[op_slot(op)];
    switch (op_kind(op)) {
    case OP_MALLOC:
      *(volatile char *)(*block = malloc(op->size)) = 1;
      break;
    case OP_FREE:
      free(*block);
      break;
    case OP_CALLOC:
      *(volatile char *)(*block = calloc(1, op->size)) = 1;
      break;
    case OP_REALLOC:
      *(volatile char *)(*block = realloc(*block, op->size)) = 1;
      break;
    case OP_ALIGNED:
      posix_memalign(block, aligned_alignment(op), aligned_size(op));
      *(volatile char *)*block = 1;
      break;
    }
  }
}
