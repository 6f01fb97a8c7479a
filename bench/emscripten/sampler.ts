/*
 * Runs a program with several mallocs in turns and takes its time. Works in Node and in the browser alike, so it uses
 * nothing but WebAssembly, performance.now and import.
 */

export interface Job {
  /** Where the program's input can be read. */
  readonly input: string;
  /** How often each of the modules is run. */
  readonly samples: number;
  readonly modules: readonly { readonly malloc: string; readonly script: string; readonly wasm: string }[];
}

/** What a program takes with one malloc: milliseconds of its shortest run, and bytes of heap; or what went wrong. */
export type Run = { readonly time: number; readonly heap: number } | string;

interface Program {
  readonly HEAPU8: Uint8Array;
  _place_input(length: number): number;
  _main(argc: number, argv: number): number;
  _heap_bytes(): number;
}

interface Options {
  instantiateWasm(imports: WebAssembly.Imports, done: (instance: WebAssembly.Instance) => void): object;
  print(line: string): void;
}

type Create = (options: Options) => Promise<Program>;

export async function sample(
  { input, samples, modules }: Job,
  read: (url: string) => Promise<Uint8Array<ArrayBuffer>>,
): Promise<Record<string, Run>> {
  const bytes = await read(input);
  const contenders = [];
  for (const { malloc, script, wasm } of modules) {
    const { default: create } = (await import(script)) as { default: Create };
    contenders.push({ malloc, create, module: await WebAssembly.compile(await read(wasm)) });
  }
  const runs: Record<string, Run> = {};
  for (let i = 0; i < samples; i++) {
    // Whoever is first finds the caches cold: each is first in its turn.
    for (let turn = 0; turn < contenders.length; turn++) {
      const { malloc, create, module } = contenders[(i + turn) % contenders.length]!;
      const before = runs[malloc];
      if (typeof before === "string") continue;
      const now = await run(create, module, bytes).catch(String);
      runs[malloc] = typeof now === "string" || !before || now.time < before.time ? now : before;
    }
  }
  return runs;
}

/** One run on a fresh heap. The module is compiled before, and what the engine learns of it is kept from run to run. */
async function run(create: Create, module: WebAssembly.Module, input: Uint8Array): Promise<Run> {
  const program = await create({
    instantiateWasm(imports, done) {
      void WebAssembly.instantiate(module, imports).then(done);
      return {};
    },
    print: () => {},
  });
  program.HEAPU8.set(input, program._place_input(input.length));
  const start = performance.now();
  const status = program._main(0, 0);
  const time = performance.now() - start;
  if (status !== 0) throw new Error(`exits with ${status}`);
  return { time, heap: program._heap_bytes() };
}
