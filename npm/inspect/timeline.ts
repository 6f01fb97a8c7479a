/** Collects samples of a heap over a program's run. */
import type { Sample } from "./report.ts";

/** A timeline has fewer samples than this: when it is full, every second one goes. */
const MOST_SAMPLES = 1000;
/** Where nothing says how often to look, looking may take this part of the time. */
const SHARE = 1 / 20;

export interface Every {
  /** At least so many milliseconds from one look to the next. */
  readonly ms?: number;
  /** So many calls of allocation functions from one look to the next. */
  readonly calls?: number;
}

export interface Timeline {
  /** Begins to count the time anew. */
  readonly start: () => void;
  /** To be told of each moment at which one may look; another may come in the middle of a look. */
  readonly onMoment: () => void;
  readonly onAllocation: (calls: number) => void;
  /** Looks once more. Returns all samples. */
  readonly take: () => Sample[];
}

/** `look` reads what memory holds; `onSample` is told of each sample while the program runs. */
export function watch(
  look: () => Pick<Sample, "memory" | "heap" | "inUse">,
  every: Every | undefined,
  onSample: (sample: Sample) => void = () => {},
): Timeline {
  let start = performance.now();
  let looking = false;
  let samples: Sample[] = [];
  let calls: number | undefined;
  let thinning = 1;
  let nextMs = every?.ms ?? 0;
  const sample = (): void => {
    if (looking) return;
    looking = true;
    const ms = performance.now() - start;
    const taken = { ms, ...(calls === undefined ? {} : { calls }), ...look() };
    const cost = performance.now() - start - ms;
    samples.push(taken);
    if (samples.length >= MOST_SAMPLES) {
      samples = samples.filter((_, index) => index % 2 === 0);
      thinning *= 2;
    }
    nextMs = ms + (every?.ms ?? Math.max(cost / SHARE, 1)) * thinning;
    if (every) onSample(taken);
    looking = false;
  };
  return {
    start: () => {
      start = performance.now();
    },
    onMoment: () => {
      if (every?.calls === undefined && performance.now() - start >= nextMs) sample();
    },
    onAllocation: (now) => {
      calls = now;
      const due =
        every?.calls === undefined
          ? performance.now() - start >= nextMs
          : now % (every.calls * thinning) === 0;
      if (due) sample();
    },
    take: () => {
      // A time limit may have ended a look.
      looking = false;
      sample();
      return samples;
    },
  };
}
