// Replays a workload as fast as possible. Its time less that of the null allocator is the allocator's own.
#include "workload.h"

void EXPORT(replay)(const struct op *op, const struct op *end, void **blocks) {
  for (; op != end; op++) make_call(op, blocks);
}

// The same, but writes to the first byte of each block, so that the time includes what a block's first use costs.
void EXPORT(replay_touch)(const struct op *op, const struct op *end, void **blocks) {
  for (; op != end; op++) {
    void **block = make_call(op, blocks);
    if (op_kind(op) != OP_FREE) *(volatile char *)*block = 1;
  }
}
