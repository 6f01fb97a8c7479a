// Replays a workload as fast as possible. Its time less that of the null allocator is the allocator's own.
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

// The same, but writes to the first byte of each block, so that the time includes what a block's first use costs.
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
