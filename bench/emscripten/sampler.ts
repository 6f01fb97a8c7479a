/*
 * Runs a program with several mallocs in turn, and times it. This runs in Node and in the browser, so it uses only
 * WebAssembly, performance.now and import.
 */

export interface Job {
  /** The URL of the program's input. */
  readonly input: string;
  /** Number of runs of each module. */
  readonly samples: number;
  readonly modules: readonly { readonly malloc: string; readonly script: string; readonly wasm: string }[];
}

/** The shortest run with one malloc, in milliseconds, and the size of its heap in bytes; or what went wrong. */
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

/** Runs a job. Returns a Run for each malloc. */
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
    // The first one finds the caches cold, so each is first in turn.
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

/** Runs a program on a fresh heap. The module was compiled before; what the engine learns about it is kept between runs. */
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
  if (status !== 0) throw new Error(`exited with code ${status}`);
  return { time, heap: program._heap_bytes() };
}
