/** Random numbers that are the same in every run. */
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";

export interface Random {
  /** Returns an integer from `from` to `to`, inclusive. */
  between(from: number, to: number): number;
  /** Returns true with this probability. */
  chance(probability: number): boolean;
  pick<T>(from: readonly T[]): T;
  /** Returns a size such as programs request: mostly small, with a long tail up to `largest`. */
  skewed(largest: number): number;
}

/** Returns a generator whose numbers depend only on the seed. */
export function random(seed: number): Random {
  const generator = xoroshiro128plus(seed);
  const between = (from: number, to: number) => uniformInt(generator, from, to);
  const chance = (probability: number) => between(0, 999_999) < probability * 1e6;
  return {
    between,
    chance,
    pick: (from) => from[between(0, from.length - 1)]!,
    skewed(largest) {
      let limit = 32;
      while (limit < largest && chance(0.45)) limit *= 2;
      return between(1, Math.min(limit, largest));
    },
  };
}
