// What a program that does not want to be told of faults has in the place of its own function. An entry of its own, and an
// object of its own in the library.

/** This object has no state. */
export const STATE_SIZE: usize = 0;

export function rsbmalloc_on_fault(message: usize, pointer: usize, size: usize): void {}
