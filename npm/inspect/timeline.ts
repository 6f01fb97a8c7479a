/** Collects samples of a heap while a program runs. */
import type { Sample } from "./report.ts";

/** Limit on the samples of a timeline: when it is reached, every second one is dropped, and from then on not kept. */
const MOST_SAMPLES = 1000;
/** Share of the time that sampling may take, if no interval is given. */
const SHARE = 1 / 20;

export interface Every {
  /** The least number of milliseconds between samples. */
  readonly ms?: number;
  /** The number of calls to allocation functions between samples. */
  readonly calls?: number;
}

export interface Timeline {
  /** Restarts the clock. */
  readonly start: () => void;
  /** Call this whenever a sample may be taken, even while one is being taken. */
  readonly onMoment: () => void;
  /** Call this after each call to an allocation function, with the number of calls so far. */
  readonly onAllocation: (calls: number) => void;
  /** Takes a last sample. Returns the samples that were kept. */
  readonly take: () => Sample[];
}

/** Returns a timeline. `look` reads the memory; `onSample` is called with each sample while the program runs. */
export function watch(
  look: () => Pick<Sample, "memory" | "heap" | "inUse">,
  every: Every | undefined,
  onSample: (sample: Sample) => void = () => {},
): Timeline {
  let start = performance.now();
  let looking = false;
  let samples: Sample[] = [];
  let calls: number | undefined;
  let taken = 0;
  /** How many samples are taken for each one that is kept. */
  let thinning = 1;
  let nextMs = every?.ms ?? 0;
  const keep = (sample: Sample): void => {
    if (samples.length >= MOST_SAMPLES) {
      samples = samples.filter((_, index) => index % 2 === 0);
      thinning *= 2;
    }
    samples.push(sample);
  };
  const sample = (isLast = false): void => {
    if (looking) return;
    looking = true;
    const ms = performance.now() - start;
    const now = { ms, ...(calls === undefined ? {} : { calls }), ...look() };
    const cost = performance.now() - start - ms;
    if (isLast || taken % thinning === 0) keep(now);
    taken += 1;
    nextMs = ms + (every?.ms ?? Math.max(cost / SHARE, 1));
    if (every) onSample(now);
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
      const due = every?.calls === undefined ? performance.now() - start >= nextMs : now % every.calls === 0;
      if (due) sample();
    },
    take: () => {
      // A time limit may have interrupted a sample.
      looking = false;
      sample(true);
      return samples;
    },
  };
}
