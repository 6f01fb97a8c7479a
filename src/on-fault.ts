// The weak default of `rsbmalloc_on_fault`. It is an entry and an object of its own in the library: a linker fetches it
// for programs that do not define the function.

/** This object has no state. */
export const STATE_SIZE: usize = 0;

export function rsbmalloc_on_fault(message: usize, pointer: usize, size: usize): void {}
