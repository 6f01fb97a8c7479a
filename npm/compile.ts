/** Compiles a finished program from its bytes, and says what other files are. */
import { HEADER } from "./binary-format.ts";
import { reasonOf } from "./errors.ts";

const MAGIC = HEADER.subarray(0, 4);
/** Where modules have 0 and components something else. */
const LAYER = 6;

/** Throws an Error of one line if it is no module, a part of a program, or a library for one that runs. */
export function compileProgram(bytes: Uint8Array<ArrayBuffer>): WebAssembly.Module {
  if (!MAGIC.every((byte, i) => bytes[i] === byte)) throw new Error("it is no WebAssembly file");
  if (bytes[LAYER])
    throw new Error("it is a component: take the core module out of it (wasm-tools component unbundle)");
  const module = compile(bytes);
  const has = (section: string) => WebAssembly.Module.customSections(module, section).length > 0;
  if (has("linking")) throw new Error("it is an object file: link it with librsbmallocc.a");
  if (has("dylink.0") || has("dylink")) throw new Error("it is a dynamic library, whose malloc is elsewhere");
  return module;
}

function compile(bytes: Uint8Array<ArrayBuffer>): WebAssembly.Module {
  try {
    return new WebAssembly.Module(bytes);
  } catch (error) {
    const what = `it is no module that Node ${process.version} can run (${reasonOf(error)})`;
    throw new Error(`${what}: link it again`, { cause: error });
  }
}
