/** Workloads that are generated, to cover what the recorded programs do not do. */
import { random, type Random } from "./random.ts";
import { recorder, type Recorder, type Workload } from "./workload.ts";

/** Removes a random element in O(1): moves the last one to its place, as their order does not matter. */
function takeRandom<T>(from: T[], rng: Random): T {
  const i = rng.between(0, from.length - 1);
  const taken = from[i]!;
  from[i] = from[from.length - 1]!;
  from.pop();
  return taken;
}

/** Keeps about `alive` blocks: records `calls` calls, random frees and allocations of `size()` bytes. Returns the blocks left. */
function churn(to: Recorder, rng: Random, calls: number, alive: number, size: () => number): number[] {
  const blocks: number[] = [];
  const end = to.calls + calls;
  while (to.calls < end) {
    if (blocks.length > 0 && (blocks.length >= 2 * alive || rng.chance(blocks.length / (2 * alive))))
      to.free(takeRandom(blocks, rng));
    else blocks.push(to.malloc(size()));
  }
  return blocks;
}

type Rule = readonly [name: string, about: string, record: (to: Recorder, rng: Random) => void];

const rules: readonly Rule[] = [
  [
    "fixed-32-lifo",
    "blocks of 32 bytes, 1,000 at a time, the last one freed first",
    (to) => {
      for (let round = 0; round < 100; round++) {
        const blocks = Array.from({ length: 1000 }, () => to.malloc(32));
        for (const block of blocks.reverse()) to.free(block);
      }
    },
  ],
  [
    "fixed-64-fifo",
    "blocks of 64 bytes pass through a queue of 2,000",
    (to) => {
      const queue: number[] = [];
      for (let i = 0; i < 100_000; i++) {
        queue.push(to.malloc(64));
        if (queue.length > 2000) to.free(queue.shift()!);
      }
    },
  ],
  [
    "fixed-48-random",
    "blocks of 48 bytes freed in random order, 10,000 live",
    (to, rng) => void churn(to, rng, 200_000, 10_000, () => 48),
  ],
  [
    "uniform-1k",
    "uniform sizes from 1 to 1,024 bytes, freed in random order, 5,000 live",
    (to, rng) => void churn(to, rng, 200_000, 5000, () => rng.between(1, 1024)),
  ],
  [
    "skewed-8k",
    "mostly small sizes with a tail up to 8 KiB, freed in random order, 5,000 live",
    (to, rng) => void churn(to, rng, 200_000, 5000, () => rng.skewed(8192)),
  ],
  [
    "phases",
    "eight phases with different sizes; each one frees the blocks of the last while it grows",
    (to, rng) => {
      let last: number[] = [];
      for (const [from, upTo] of [
        [16, 64],
        [200, 300],
        [1000, 2000],
        [8, 24],
        [4000, 9000],
        [100, 140],
        [20_000, 40_000],
        [16, 64],
      ] as const) {
        const count = Math.min(20_000, Math.floor(8e6 / upTo));
        const now: number[] = [];
        for (let i = 0; i < count; i++) {
          now.push(to.malloc(rng.between(from, upTo)));
          while (last.length > 0 && last.length / count > (count - i) / count) to.free(takeRandom(last, rng));
        }
        for (const block of last) to.free(block);
        last = now;
      }
    },
  ],
  [
    "phase-change",
    "4 MB of 40-byte blocks, all freed, then 4 MB of 200-byte blocks",
    (to, rng) => {
      const first = Array.from({ length: 100_000 }, () => to.malloc(40));
      while (first.length > 0) to.free(takeRandom(first, rng));
      for (let i = 0; i < 20_000; i++) to.malloc(200);
    },
  ],
  [
    "phase-first",
    "the first half of phase-change, to show what the second half adds to the peak",
    (to, rng) => {
      const first = Array.from({ length: 100_000 }, () => to.malloc(40));
      while (first.length > 0) to.free(takeRandom(first, rng));
    },
  ],
  [
    "vectors",
    "64 vectors grow by realloc, by half each time, up to 256 KiB",
    (to, rng) => {
      const vectors: { block: number; size: number }[] = [];
      while (to.calls < 60_000) {
        if (vectors.length < 64) vectors.push({ block: to.malloc(16), size: 16 });
        const vector = rng.pick(vectors);
        vector.size = Math.ceil((vector.size * 3) / 2);
        to.realloc(vector.block, vector.size);
        if (vector.size > 262_144 || rng.chance(0.02)) {
          to.free(vector.block);
          vectors.splice(vectors.indexOf(vector), 1);
        }
      }
    },
  ],
  [
    "append-realloc",
    "one string after another grows by realloc, a few bytes at a time, up to 4 KiB",
    (to, rng) => {
      while (to.calls < 100_000) {
        const block = to.malloc(1);
        for (let size = 1; size < 4096; size += rng.between(1, 32)) to.realloc(block, size);
        to.free(block);
      }
    },
  ],
  [
    "big-blocks",
    "blocks of 16 KiB to 2 MiB, freed in random order, about 16 live",
    (to, rng) => void churn(to, rng, 20_000, 16, () => Math.floor(16_384 * 2 ** (rng.between(0, 699) / 100))),
  ],
  [
    "medium",
    "blocks of 1 to 64 KiB, freed in random order, about 300 live",
    (to, rng) => void churn(to, rng, 100_000, 300, () => Math.floor(1024 * 2 ** (rng.between(0, 600) / 100))),
  ],
  [
    "producer-consumer",
    "messages of mixed sizes pass through a queue of varying length",
    (to, rng) => {
      const queue: number[] = [];
      let head = 0;
      for (let burst = 0; burst < 400; burst++) {
        for (let n = rng.between(50, 450); n > 0; n--) queue.push(to.malloc(rng.skewed(4096)));
        for (let n = Math.min(queue.length - head, rng.between(50, 450)); n > 0; n--) to.free(queue[head++]!);
      }
      while (head < queue.length) to.free(queue[head++]!);
    },
  ],
  [
    "fragmented",
    "every second block of a heap of mixed sizes is freed, then similar blocks come and go in the gaps",
    (to, rng) => {
      const blocks = Array.from({ length: 30_000 }, () => to.malloc(rng.skewed(2048)));
      for (let i = 0; i < blocks.length; i += 2) to.free(blocks[i]!);
      churn(to, rng, 150_000, 4000, () => rng.skewed(2048));
    },
  ],
  [
    "calloc-aligned",
    "zeroed blocks, and blocks aligned to 16 to 256 bytes, among ordinary ones",
    (to, rng) => {
      const blocks: number[] = [];
      while (to.calls < 100_000) {
        if (blocks.length > 2000) to.free(takeRandom(blocks, rng));
        const size = rng.skewed(2048);
        if (rng.chance(0.3)) blocks.push(to.calloc(size));
        else if (rng.chance(0.15)) blocks.push(to.aligned(2 ** rng.between(4, 8), size));
        else blocks.push(to.malloc(size));
      }
    },
  ],
  [
    "tiny",
    "a program that allocates ten blocks",
    (to) => {
      for (const size of [12, 24, 100, 1024, 8, 40, 40, 200, 64, 4000]) to.malloc(size);
    },
  ],
];

export const syntheticNames = rules.map(([name]) => name);

/** Returns a workload. Its calls are the same each time, because it has a random generator of its own with a fixed seed. */
export function synthetic(name: string): Workload {
  const index = syntheticNames.indexOf(name);
  const [, about, record] = rules[index]!;
  const to = recorder();
  record(to, random(index + 1));
  return to.finish(name, "synthetic", about);
}
