/** Shared by the tests: assembles modules in WebAssembly's text format. */
import loadWabt from "wabt";

const wabt = await loadWabt();

type Features = Parameters<typeof wabt.parseWat>[2];
type Options = Parameters<ReturnType<typeof wabt.parseWat>["toBinary"]>[0];

/** Assembles a module. Throws an Error with wabt's messages if that fails. */
export function assemble(
  source: string,
  features: Features = {},
  options: Options = {},
): Uint8Array<ArrayBuffer> {
  const module = wabt.parseWat("module.wat", source, features);
  try {
    return new Uint8Array(module.toBinary(options).buffer);
  } finally {
    module.destroy();
  }
}
