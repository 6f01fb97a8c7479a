/** `rsbmalloc swap`: replaces the malloc of a linked module. */
import { readFileSync } from "node:fs";
import type { Command } from "commander";
import { list, nonEmpty, single, writeFile } from "../command-line.ts";
import { reasonOf } from "../errors.ts";
import { withBinaryen } from "../with-binaryen.ts";
import type { SwapReport } from "./swap.ts";

interface Options {
  readonly output?: string;
  readonly symbolMap?: string;
  readonly function?: readonly string[];
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

export function registerSwap(program: Command): void {
  program
    .command("swap")
    .description("Replace the dlmalloc or emmalloc of a linked module (Emscripten or WASI) with rsbmalloc")
    .argument("<module>", "File of the module", nonEmpty)
    .option("-o, --output <file>", "Write the new module to this file", single)
    .option(
      "--symbol-map <file>",
      "Read the names of the module's functions from this file (emcc --emit-symbol-map)",
      single,
    )
    .option("--function <name=index>", "Name one function by its index; may be repeated", list)
    .option("--dry-run", "Do everything except write the file")
    .option("--json", "Print the report as JSON")
    .addHelpText(
      "after",
      `
Examples:
  $ rsbmalloc swap app.wasm -o app.rsb.wasm
  $ rsbmalloc swap app.wasm --symbol-map app.js.symbols -o app.wasm
  $ rsbmalloc swap app.wasm --function malloc=12 --function free=13 --dry-run`,
    )
    .showHelpAfterError("; see rsbmalloc swap --help")
    .action(run);
}

/** Throws a one-line Error, and writes nothing, if the result could be wrong. */
async function run(file: string, options: Options): Promise<void> {
  const { output, symbolMap, function: functions = [], dryRun = false, json = false } = options;
  if (output === undefined && !dryRun) throw new Error("swap needs -o FILE for the new module, or --dry-run");
  const names = readSymbolMap(symbolMap);
  const byHand = parseFunctions(functions);
  const bytes = readFile(file);
  // Binaryen takes a while to load.
  const { swap } = await withBinaryen(() => import("./swap.ts"));
  const { bytes: result, report } = await swap(new Uint8Array(bytes), names, byHand).catch(
    (error: unknown) => {
      throw new Error(`${file}: ${reasonOf(error)}`, { cause: error });
    },
  );
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

function readSymbolMap(file: string | undefined): Map<string, number> {
  if (file === undefined) return new Map();
  const text = readFile(file).toString("utf8");
  try {
    return parseSymbolMap(text);
  } catch (error) {
    throw new Error(`${file}: ${reasonOf(error)}`, { cause: error });
  }
}

/** Parses lines of the form `INDEX:NAME`. Throws a one-line Error if one is not. */
export function parseSymbolMap(text: string): Map<string, number> {
  const names = new Map<string, number>();
  for (const line of text.split(/\r?\n/).filter(Boolean)) {
    const [, index, name] = /^(\d+):(.+)$/.exec(line) ?? [];
    if (name === undefined)
      throw new Error(`not a symbol map: ${JSON.stringify(line.slice(0, 60))} is not INDEX:NAME`);
    names.set(name, Number(index));
  }
  return names;
}

function parseFunctions(options: readonly string[]): Map<string, number> {
  const names = new Map<string, number>();
  for (const option of options) {
    const [, name, index] = /^([^=]+)=(\d+)$/.exec(option) ?? [];
    if (name === undefined) throw new Error(`--function ${option} is not of the form NAME=INDEX`);
    if (names.has(name)) throw new Error(`--function ${name}=INDEX is given more than once`);
    names.set(name, Number(index));
  }
  return names;
}

const SOURCES: Readonly<Record<SwapReport["source"], string>> = {
  sbrk: "the module's own sbrk",
  emscripten_resize_heap: "the module's emscripten_resize_heap",
  "memory.grow": "memory.grow",
};

function format({ allocator, replaced, removed, source, errno, before, after }: SwapReport): string {
  const names = (functions: readonly { readonly index: number; readonly name?: string }[]) =>
    functions
      .map(({ index, name }) => (name === undefined ? `function ${index}` : `${name} (${index})`))
      .join(", ");
  const bytes = (size: number) => `${size.toLocaleString("en")} B`;
  return [
    `${allocator} replaced by rsbmalloc`,
    `  replaced: ${names(replaced)}`,
    `  removed:  ${removed.length > 0 ? names(removed) : "nothing else"}`,
    `  memory:   from ${SOURCES[source]}`,
    ...(errno === 0 ? ["  errno:    not found, so failures will not set it"] : []),
    `  size:     ${bytes(before)} before, ${bytes(after)} after`,
    "",
  ].join("\n");
}
