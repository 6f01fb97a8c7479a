// C's `errno`, where the program has one.

import { EMSCRIPTEN } from "./config";

/** The address of the program's `errno`; 0 in a program that has none. */
@external("env", "errno")
declare const ERRNO: usize;

/** The same as Emscripten's libc gives it. */
@external("env", "__errno_location")
declare function errnoLocation(): usize;


@inline
function errnoAddress(): usize {
  return EMSCRIPTEN ? errnoLocation() : ERRNO;
}

export function getErrno(): i32 {
  const address = errnoAddress();
  return address ? load<i32>(address) : 0;
}

export function setErrno(error: i32): void {
  const address = errnoAddress();
  if (address) store<i32>(address, error);
}
