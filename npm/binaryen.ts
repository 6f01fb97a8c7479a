/** Reads modules with Binaryen, and lists their parts, which Binaryen itself offers only by index. */
import binaryen from "binaryen";
import { reasonOf } from "./errors.ts";

/** Throws a one-line Error that ends in `advice` if Binaryen cannot read the module. */
export function readModule(bytes: Uint8Array, features: binaryen.Features, advice: string): binaryen.Module {
  const { write } = process.stderr;
  // Binaryen warns about parts of the `name` section that it does not know, which do no harm.
  process.stderr.write = () => true;
  try {
    return binaryen.readBinaryWithFeatures(bytes, features);
  } catch (error) {
    throw new Error(`Binaryen cannot read it (${reasonOf(error)}): ${advice}`, { cause: error });
  } finally {
    process.stderr.write = write;
  }
}

export function functionsOf(module: binaryen.Module): binaryen.FunctionInfo[] {
  return Array.from({ length: module.getNumFunctions() }, (_, i) =>
    binaryen.getFunctionInfo(module.getFunctionByIndex(i)),
  );
}

export function globalsOf(module: binaryen.Module): binaryen.GlobalInfo[] {
  return Array.from({ length: module.getNumGlobals() }, (_, i) =>
    binaryen.getGlobalInfo(module.getGlobalByIndex(i)),
  );
}

export function tablesOf(module: binaryen.Module): binaryen.TableInfo[] {
  return Array.from({ length: module.getNumTables() }, (_, i) =>
    binaryen.getTableInfo(module.getTableByIndex(i)),
  );
}

export function exportsOf(module: binaryen.Module): binaryen.ExportInfo[] {
  return Array.from({ length: module.getNumExports() }, (_, i) =>
    binaryen.getExportInfo(module.getExportByIndex(i)),
  );
}
