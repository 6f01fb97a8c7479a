/** AssemblyScript's TLSF as an allocator for C programs. */
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import asc from "assemblyscript/asc";
import { exportedConstant } from "../../npm/binary-format.ts";
import { cached } from "../../tools/cache.ts";
import { UserError } from "../../tools/command.ts";
import type { Program } from "../../tools/compiler.ts";
import { BENCH, BINARYEN, BINARYEN_MANIFEST, link } from "../toolchain.ts";

const run = promisify(execFile);

const SOURCE = path.join(BENCH, "peers", "tlsf", "index.ts");
const OPTIONS = ["--runtime", "minimal", "--importMemory", "--noExportMemory", "--use", "abort=", "-O3"];

/**
 * Links a program with AssemblyScript's TLSF, whose heap starts at a compile-time constant. Therefore the program is linked
 * first, importing malloc; then TLSF is compiled for where the program's data ends, and the two modules are merged.
 */
export async function linkTlsf(program: Program): Promise<string> {
  const unfinished = await link({
    ...program,
    // Without libc, because the linker would take its malloc.
    target: "none",
    model: "command",
    linkFlags: [...(program.linkFlags ?? []), "-Wl,--allow-undefined,--export=__heap_base"],
  });
  const by = [asc.version, ...OPTIONS];
  return cached({ by, of: [unfinished, SOURCE, BINARYEN_MANIFEST], extension: ".wasm" }, async (file) => {
    const tlsf = `${file}.tlsf`;
    await compileTlsf(tlsf, exportedConstant(await readFile(unfinished), "__heap_base"));
    // Each imports what the other exports, from "env".
    const merge = path.join(BINARYEN, "bin", "wasm-merge");
    await run(process.execPath, [merge, unfinished, "env", tlsf, "env", "-o", file, "--all-features"]);
  });
}

async function compileTlsf(file: string, base: number): Promise<void> {
  const { error, stderr } = await asc.main([
    SOURCE,
    "--baseDir",
    "/",
    "--outFile",
    file,
    "--memoryBase",
    String(base),
    ...OPTIONS,
  ]);
  if (error) throw new UserError(`AssemblyScript's compiler failed: ${stderr.toString().split("\n")[0]}`);
}
