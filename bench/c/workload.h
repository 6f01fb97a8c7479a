// An operation of a workload: two 32-bit words, packed by bench/workloads/workload.ts.
//
//   word 0   31                3 2   0      word 1   31       27 26                 0
//            |      slot        | op |               | log2(al) |       size         |   op = ALIGNED
//                                                    |            size               |   otherwise
#ifndef RSB_BENCH_WORKLOAD_H
#define RSB_BENCH_WORKLOAD_H
#include <stddef.h>
#include <stdint.h>

enum { OP_MALLOC, OP_FREE, OP_CALLOC, OP_REALLOC, OP_ALIGNED };

struct op {
  uint32_t slot_and_kind;
  uint32_t size;
};

static inline uint32_t op_kind(const struct op *op) { return op->slot_and_kind & 7; }
static inline uint32_t op_slot(const struct op *op) { return op->slot_and_kind >> 3; }
static inline size_t aligned_size(const struct op *op) { return op->size & 0x7ffffff; }
static inline size_t aligned_alignment(const struct op *op) { return (size_t)1 << (op->size >> 27); }

void *malloc(size_t);
void free(void *);
void *calloc(size_t, size_t);
void *realloc(void *, size_t);
int posix_memalign(void **, size_t, size_t);

// Makes the call of an operation. Returns the place of its block.
__attribute__((always_inline)) static inline void **make_call(const struct op *op, void **blocks) {
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
  return block;
}

#define EXPORT(name) __attribute__((export_name(#name), used)) name
#endif
