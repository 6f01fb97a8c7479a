/** Loads a WebAssembly module from whatever form it is at hand in. */

/** A module's bytes, where they are (a URL or its text, `file:` in Node), or a response that brings them. */
type BytesSource = BufferSource | URL | string | Response | PromiseLike<Response>;
export type ModuleSource = WebAssembly.Module | BytesSource;

/** Throws an Error of one line if there is no module at `source`. */
export async function loadModule(source: ModuleSource): Promise<WebAssembly.Module> {
  if (source instanceof WebAssembly.Module) return source;
  try {
    return await WebAssembly.compile(await bytesOf(source as BytesSource));
  } catch (error) {
    const where = source instanceof URL || typeof source === "string" ? ` from ${source}` : "";
    throw new Error(
      `rsbmalloc: cannot load the module${where}: ${error instanceof Error ? error.message : error}`,
      {
        cause: error,
      },
    );
  }
}

async function bytesOf(source: BytesSource): Promise<BufferSource> {
  if (source instanceof ArrayBuffer || ArrayBuffer.isView(source)) return source;
  if (source instanceof URL || typeof source === "string") {
    const url = new URL(source, globalThis.document?.baseURI ?? import.meta.url);
    return url.protocol === "file:" ? readFile(url) : bytesOf(fetch(url));
  }
  const response = await source;
  if (!response.ok) throw new Error(`HTTP status ${response.status}`);
  return response.arrayBuffer();
}

/** The module name is no literal, so that bundlers for browsers let it be: only Node comes here. */
async function readFile(url: URL): Promise<BufferSource> {
  const name = "node:fs/promises";
  const fs: typeof import("node:fs/promises") = await import(
    /* @vite-ignore */ /* webpackIgnore: true */ name
  );
  return fs.readFile(url);
}
