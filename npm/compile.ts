/** Compiles a linked program, and says what is wrong with files that are something else. */
import { HEADER, LIMITS, readMemories, readSections } from "./binary-format.ts";
import { reasonOf } from "./errors.ts";

const MAGIC = HEADER.subarray(0, 4);
/** Offset of the byte that is 0 in modules and not 0 in components. */
const LAYER = 6;

/** Throws a one-line Error if `bytes` are not a module, have 64-bit memory, or are not linked completely. */
export function compileProgram(bytes: Uint8Array<ArrayBuffer>): WebAssembly.Module {
  if (!MAGIC.every((byte, i) => bytes[i] === byte)) throw new Error("not a WebAssembly file");
  if (bytes[LAYER])
    throw new Error("component: extract its core module first (wasm-tools component unbundle)");
  // Before compiling, because an old Node would say only that the memory's flags are invalid.
  if (has64BitMemory(bytes)) throw new Error("its memory is 64-bit: rsbmalloc supports only 32-bit memory");
  const module = compile(bytes);
  const has = (section: string) => WebAssembly.Module.customSections(module, section).length > 0;
  if (has("linking")) {
    // Relocations would be wrong as soon as something is changed.
    const isObject =
      WebAssembly.Module.exports(module).length === 0 ||
      WebAssembly.Module.imports(module).some(({ name }) => name === "__linear_memory");
    throw new Error(
      isObject
        ? "object file: link it with librsbmallocc.a first"
        : "has relocations: link it without --emit-relocs",
    );
  }
  if (has("dylink.0") || has("dylink"))
    throw new Error("linked for dynamic linking: link the main module with librsbmallocc.a instead");
  return module;
}

function compile(bytes: Uint8Array<ArrayBuffer>): WebAssembly.Module {
  try {
    return new WebAssembly.Module(bytes);
  } catch (error) {
    const what = `Node ${process.version} cannot compile the module (${reasonOf(error)})`;
    throw new Error(`${what}: the file is damaged, or needs a newer Node`, { cause: error });
  }
}

function has64BitMemory(bytes: Uint8Array): boolean {
  try {
    return readMemories(readSections(bytes)).some((limits) => limits & LIMITS.is64Bit);
  } catch {
    // The file is damaged: compiling it tells where.
    return false;
  }
}
