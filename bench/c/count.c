// Replays a workload in a module that counts its instructions (bench/instructions.ts): `count` returns the counter's value,
// and `note` reports how many instructions a call took.
#include "workload.h"

__attribute__((import_module("bench"), import_name("count"))) uint32_t count(void);
__attribute__((import_module("bench"), import_name("note"))) void note(uint32_t kind, uint32_t instructions);

void EXPORT(replay)(const struct op *op, const struct op *end, void **blocks) {
  for (; op != end; op++) {
    void **block = &blocks[op_slot(op)];
    uint32_t before = count();
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
    note(op_kind(op), count() - before);
  }
}
