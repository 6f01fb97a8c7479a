// C's allocation functions, on AssemblyScript's allocator TLSF. It has no calloc of its own and no aligned allocation.
export function malloc(size: usize): usize {
  return __alloc(size);
}

export function free(block: usize): void {
  if (block) __free(block);
}

export function calloc(count: usize, size: usize): usize {
  const block = __alloc(count * size);
  memory.fill(block, 0, count * size);
  return block;
}

export function realloc(block: usize, size: usize): usize {
  return block ? __realloc(block, size) : __alloc(size);
}

export function posix_memalign(memptr: usize, alignment: usize, size: usize): i32 {
  if (alignment > 16) return 28; // EINVAL
  store<usize>(memptr, __alloc(size));
  return 0;
}

export function aligned_alloc(alignment: usize, size: usize): usize {
  return alignment > 16 ? 0 : __alloc(size);
}

export function malloc_usable_size(block: usize): usize {
  return load<usize>(block, -4) & ~3;
}
