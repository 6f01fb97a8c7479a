/** Loads a WebAssembly module from bytes, a URL or a response. */
import { reasonOf } from "./errors.ts";
import type { FetchResponse, Module, Url } from "./webassembly.ts";

/**
 * A module's bytes, their URL (in Node also a `file:` URL), or a response with them. A string is resolved against the
 * URL of the page or the worker's script, in Node against the working folder.
 */
type BytesSource = ArrayBuffer | ArrayBufferView | Url | string | FetchResponse | PromiseLike<FetchResponse>;
export type ModuleSource = Module | BytesSource;

/** Throws a one-line Error if the module cannot be read or compiled. */
export async function loadModule(source: ModuleSource): Promise<Module> {
  if (source instanceof WebAssembly.Module) return source;
  try {
    return await WebAssembly.compile(await bytesOf(source as BytesSource));
  } catch (error) {
    const where = source instanceof URL || typeof source === "string" ? ` from ${source}` : "";
    throw new Error(`rsbmalloc: cannot load the module${where}: ${reasonOf(error)}`, { cause: error });
  }
}

async function bytesOf(source: BytesSource): Promise<BufferSource> {
  if (source instanceof ArrayBuffer || ArrayBuffer.isView(source)) return source as BufferSource;
  if (source instanceof URL || typeof source === "string") {
    const base = globalThis.document?.baseURI ?? globalThis.location?.href;
    const url = new URL(source, base ?? workingFolder());
    return url.protocol === "file:" ? readFile(url) : bytesOf(fetch(url));
  }
  const response = await source;
  if (response?.ok === undefined) throw new Error("it is neither a module nor bytes, a URL or a response");
  if (!response.ok) throw new Error(`HTTP status ${response.status}`);
  return response.arrayBuffer();
}

// Node's modules are not imported: bundlers for browsers would look for them.

function readFile(url: URL): Promise<BufferSource> {
  return process.getBuiltinModule("node:fs/promises").readFile(url);
}

function workingFolder(): URL {
  return process.getBuiltinModule("node:url").pathToFileURL("./");
}
