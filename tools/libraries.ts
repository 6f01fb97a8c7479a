/** Where the C libraries are that `make lib` builds. */

export type LibraryTarget = "wasm32-wasi" | "wasm32-wasi-threads" | "wasm32-emscripten";

/** Returns a library's path, relative to the project's folder. A variant is, for example, "prefixed" or "mt-hardened". */
export function library(target: LibraryTarget, variant = ""): string {
  return `lib/${target}/librsbmallocc${variant && `-${variant}`}.a`;
}
