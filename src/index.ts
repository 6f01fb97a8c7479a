// The functions of the C library under their C names. cabi/names.ts lists the symbols that each of them gets.

import { STATE_SIZE as size, WASM_PAGE } from "./config";
import { allocateAligned, release, releaseSized } from "./heap";

/** For the build, which reserves memory for the state. */
export const STATE_SIZE: usize = size;

export {
  allocate as malloc,
  release as free,
  allocateZeroed as calloc,
  resize as realloc,
  reallocateArray as reallocarray,
  allocateAligned as aligned_alloc,
  allocateAlignedTo as posix_memalign,
  usableSize as malloc_usable_size,
  describe as mallinfo,
  allocatePages as page_alloc,
  resizePages as page_realloc,
  check as malloc_check,
} from "./heap";

export function memalign(alignment: usize, size: usize): usize {
  return allocateAligned(alignment, size);
}

export function valloc(size: usize): usize {
  return allocateAligned(WASM_PAGE, size);
}

/** `valloc` of whole wasm pages. A size that would overflow when rounded up stays as it is: it is too large anyway. */
export function pvalloc(size: usize): usize {
  return allocateAligned(WASM_PAGE, max(size, (size + (WASM_PAGE - 1)) & ~(WASM_PAGE - 1)));
}

export function free_sized(block: usize, size: usize): void {
  releaseSized(block, 0, size);
}

export { releaseSized as free_aligned_sized };

export function page_free(run: usize): void {
  release(run);
}
