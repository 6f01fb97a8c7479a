// Replays a workload in a module that counts its instructions (bench/instructions.ts): `count` returns the counter's value,
// and `note` reports how many instructions a call took.
#include "workload.h"

__attribute__((import_module("bench"), import_name("count"))) uint32_t count(void);
__attribute__((import_module("bench"), import_name("note"))) void note(uint32_t kind, uint32_t instructions);

void EXPORT(replay)(const struct op *op, const struct op *end, void **blocks) {
  for (; op != end; op++) {
    uint32_t before = count();
    make_call(op, blocks);
    note(op_kind(op), count() - before);
  }
}
