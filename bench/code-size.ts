/** Measures what an allocator adds to the size of a program. */
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { linkSmall, type Peer } from "./peers/peers.ts";

/** What an allocator adds to a stripped module, code and data, in bytes, compared with a stub. */
export interface CodeSize {
  /** malloc, calloc, realloc, free, aligned_alloc, posix_memalign, malloc_usable_size. */
  readonly api: number;
  readonly apiGzipped: number;
  /** malloc and free alone. */
  readonly pair: number;
  readonly pairGzipped: number;
}

/** Links two small programs with an allocator and with a stub, and returns the differences. */
export async function codeSize(peer: Peer, stub: Peer): Promise<CodeSize> {
  const gain = async (program: string) => {
    const large = readFileSync(await linkSmall(program, peer));
    const small = readFileSync(await linkSmall(program, stub));
    return [large.length - small.length, gzipped(large) - gzipped(small)] as const;
  };
  const [api, apiGzipped] = await gain("size-api");
  const [pair, pairGzipped] = await gain("size-pair");
  return { api, apiGzipped, pair, pairGzipped };
}

function gzipped(bytes: Uint8Array): number {
  return gzipSync(bytes, { level: 9 }).length;
}
