/** Compiles the core from AssemblyScript to a wasm module, and to the relocatable form that the object writer reads. */
import path from "node:path";
import asc from "assemblyscript/asc";
import loadWabt from "wabt";
import { exportedConstant } from "../npm/binary-format.ts";
import { ROOT, UserError } from "../tools/command.ts";

export interface Core {
  /** The module as compiled. */
  readonly module: Uint8Array;
  /** `module` with five-byte indices and a reloc.Code section. */
  readonly relocatable: Uint8Array;
  /** The size of the core's state in memory, in bytes. */
  readonly stateSize: number;
}

/**
 * Compiles entries of src/ with each of `constants` defined as 1 and with `options` besides those of asconfig.json.
 * Throws a UserError with the compiler's messages if that fails.
 */
export async function compile(
  entries: readonly string[],
  constants: readonly string[],
  options: readonly string[] = [],
) {
  const outputs = new Map<string, string | Uint8Array>();
  const files = [...entries, "--baseDir", ROOT, "--outFile", "core.wasm", "--textFile", "core.wat"];
  const config = ["--config", path.join("cabi", "asconfig.json"), ...options];
  const defined = constants.flatMap((name) => ["--use", `${name}=1`]);
  const { error, stderr } = await asc.main([...files, ...config, ...defined], {
    writeFile: (name, contents) => void outputs.set(name, contents),
  });
  if (error)
    throw new UserError(`${entries.join(", ")} does not compile: ${error.message}\n${stderr.toString()}`);
  return { module: outputs.get("core.wasm") as Uint8Array, text: outputs.get("core.wat") as string };
}

/** Compiles entries like `compile`. One of them must export STATE_SIZE, the size of the state. */
export async function compileCore(
  entries: readonly string[],
  constants: readonly string[],
  options: readonly string[],
): Promise<Core> {
  const { module, text } = await compile(entries, constants, options);
  const wabt = await loadWabt();
  const features = { bulk_memory: true, threads: true, sign_extension: true, tail_call: true };
  const parsed = wabt.parseWat("core.wat", text, features);
  const { buffer } = parsed.toBinary({ relocatable: true, write_debug_names: true });
  parsed.destroy();
  return { module, relocatable: buffer, stateSize: exportedConstant(module, "STATE_SIZE") };
}
