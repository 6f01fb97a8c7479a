/** `rsbmalloc swap`: exchanges the malloc of a finished module. */
import { readFileSync, writeFileSync } from "node:fs";
import type { Sade } from "sade";
import { reasonOf } from "./errors.ts";
import type { SwapReport } from "./swap.ts";

interface Options {
  readonly output?: string;
  readonly "symbol-map"?: string;
  readonly function?: string | readonly string[];
  readonly "dry-run"?: boolean;
  readonly json?: boolean;
  /** What follows the module. */
  readonly _: readonly string[];
}

export const VALUES = {
  output: "the name of a file",
  "symbol-map": "the name of a file",
  function: "NAME=INDEX",
};
export const LISTS = ["function"];

export function register(cli: Sade): void {
  cli
    .command(
      "swap [module]",
      "Exchange the malloc of a finished module, Emscripten's or WASI's, for rsbmalloc",
    )
    .option("-o, --output", "File for the new module")
    .option("--symbol-map", "File with the names of the module's functions (emcc --emit-symbol-map)")
    .option("--function", "One of them: malloc=INDEX; can be given more than once")
    .option("--dry-run", "Only tell what would be done", false)
    .option("--json", "Tell it as JSON", false)
    .example("swap app.wasm -o app.rsb.wasm")
    .example("swap app.wasm --symbol-map app.js.symbols -o app.wasm")
    .example("swap app.wasm --function malloc=12 --function free=13 --dry-run")
    .action(run);
}

/** Throws an Error of one line where the result could be wrong, or on bad input. */
async function run(file: string | undefined, options: Options): Promise<void> {
  if (file === undefined) throw new Error("swap needs a module: rsbmalloc swap app.wasm -o app.rsb.wasm");
  if (options._.length > 0) throw new Error(`swap takes one module, and ${options._[0]} is too many`);
  const { output, "dry-run": dryRun = false, json = false } = options;
  if (output === undefined && !dryRun) throw new Error("swap needs -o FILE for the new module, or --dry-run");
  const given = new Map([...readSymbolMap(options["symbol-map"]), ...parseFunctions(options.function)]);
  const bytes = readFile(file);
  // Binaryen takes a while to load.
  const { swap } = await import("./swap.ts");
  const { bytes: result, report } = await swap(new Uint8Array(bytes), given).catch((error: unknown) => {
    throw new Error(`${file}: ${reasonOf(error)}`, { cause: error });
  });
  if (output !== undefined && !dryRun) writeFile(output, result);
  process.stdout.write(json ? `${JSON.stringify(report, null, 2)}\n` : format(report));
}

function readFile(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new Error(`cannot read ${file}: ${reasonOf(error)}`, { cause: error });
  }
}

function writeFile(file: string, bytes: Uint8Array): void {
  try {
    writeFileSync(file, bytes);
  } catch (error) {
    throw new Error(`cannot write ${file}: ${reasonOf(error)}`, { cause: error });
  }
}

/** Lines of `INDEX:NAME`. */
function readSymbolMap(file: string | undefined): [name: string, index: number][] {
  if (file === undefined) return [];
  const lines = readFile(file).toString("utf8").split(/\r?\n/).filter(Boolean);
  return lines.map((line) => {
    const [, index, name] = /^(\d+):(.+)$/.exec(line) ?? [];
    if (name === undefined)
      throw new Error(`${file} is no symbol map: it has the line ${JSON.stringify(line.slice(0, 60))}`);
    return [name, Number(index)];
  });
}

function parseFunctions(option: Options["function"]): [name: string, index: number][] {
  return [option ?? []].flat().map((given) => {
    const [, name, index] = /^([^=]+)=(\d+)$/.exec(given) ?? [];
    if (name === undefined) throw new Error(`--function ${given} is not of the form NAME=INDEX`);
    return [name, Number(index)];
  });
}

const SOURCES: Readonly<Record<SwapReport["source"], string>> = {
  sbrk: "the module's own sbrk",
  emscripten_resize_heap: "the module's emscripten_resize_heap",
  "memory.grow": "memory.grow",
};

function format({ allocator, replaced, removed, source, errno, before, after }: SwapReport): string {
  const list = (functions: readonly { readonly index: number; readonly name?: string }[]) =>
    functions
      .map(({ index, name }) => (name === undefined ? `function ${index}` : `${name} (${index})`))
      .join(", ");
  const bytes = (size: number) => `${size.toLocaleString("en")} B`;
  return [
    `${allocator} exchanged for rsbmalloc`,
    `  replaced: ${list(replaced)}`,
    `  removed:  ${removed.length > 0 ? list(removed) : "nothing else"}`,
    `  memory:   from ${SOURCES[source]}`,
    ...(errno === 0 ? ["  errno:    none found, so failures do not set it"] : []),
    `  size:     ${bytes(before)} before, ${bytes(after)} after`,
    "",
  ].join("\n");
}
