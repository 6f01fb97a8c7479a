// C's `errno`, where the program has one.

import { EMSCRIPTEN, LOCKED } from "./config";

/** The address of the program's `errno`; 0 in a program that has none. */
@external("env", "errno")
declare const ERRNO: usize;

/** Of libc: returns the address of the calling thread's own `errno`. */
@external("env", "__errno_location")
declare function errnoLocation(): usize;

/** The table index of that function; 0 in a program without it. */
@external("env", "address of __errno_location")
declare const ERRNO_LOCATION: usize;


@inline
function errnoAddress(): usize {
  if (EMSCRIPTEN) return errnoLocation();
  if (LOCKED) return ERRNO_LOCATION ? errnoLocation() : 0;
  return ERRNO;
}

export function getErrno(): i32 {
  const address = errnoAddress();
  return address ? load<i32>(address) : 0;
}

export function setErrno(error: i32): void {
  const address = errnoAddress();
  if (address) store<i32>(address, error);
}
