import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { linkSmall, type Peer } from "./peers/peers.ts";

/** Bytes that a module gains by an allocator, against one with a stub in its place: code and data, stripped. */
export interface CodeSize {
  /** malloc, calloc, realloc, free, aligned_alloc, posix_memalign, malloc_usable_size. */
  readonly api: number;
  readonly apiGzipped: number;
  /** malloc and free alone. */
  readonly pair: number;
  readonly pairGzipped: number;
}

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
