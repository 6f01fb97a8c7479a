// Replays a workload and times it itself, for an engine that can only call a function without arguments: Wizer.
#include "workload.h"

// Written by bench/cranelift.ts at the start of the workload's memory. The operations follow it.
struct job {
  const struct op *end;
  void **blocks;
  uint32_t samples;
  uint32_t repeats;
};
#define JOB ((const struct job *)65536)

struct slice {
  const void *bytes;
  size_t length;
};

#define WASI(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name)))
WASI(clock_time_get) int clock_time_get(uint32_t clock, uint64_t precision, uint64_t *nanoseconds);
WASI(fd_write) int fd_write(int fd, const struct slice *slices, size_t count, size_t *written);
enum { STDOUT = 1, MONOTONIC = 1 };

static uint64_t now(void) {
  uint64_t nanoseconds = 0;
  clock_time_get(MONOTONIC, 1, &nanoseconds);
  return nanoseconds;
}

static void print(uint64_t number) {
  char digits[21], *start = digits + sizeof digits;
  do *--start = '0' + number % 10;
  while (number /= 10);
  size_t written;
  fd_write(STDOUT, &(struct slice){start, digits + sizeof digits - start}, 1, &written);
}

void replay(const struct op *op, const struct op *end, void **blocks);

// Prints the time of the shortest sample in nanoseconds.
void EXPORT(run)(void) {
  uint64_t best = UINT64_MAX;
  for (uint32_t sample = 0; sample < JOB->samples; sample++) {
    uint64_t start = now();
    for (uint32_t i = 0; i < JOB->repeats; i++) replay((const struct op *)(JOB + 1), JOB->end, JOB->blocks);
    uint64_t taken = now() - start;
    if (taken < best) best = taken;
  }
  print(best);
}
