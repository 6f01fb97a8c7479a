/** Starts drivers: the programs of bench/c that make the calls. */

/** A driver's exports. */
export type Driver = Readonly<Record<string, CallableFunction>> & { readonly memory: WebAssembly.Memory };

/** Makes and initializes an instance of a driver, with these imports and those of WASI. */
export function startDriver(module: WebAssembly.Module, imports: WebAssembly.Imports = {}): Driver {
  const all = { ...standIns(module, () => driver.memory), ...imports };
  const driver = new WebAssembly.Instance(module, all).exports as Driver;
  driver._initialize?.();
  return driver;
}

/** Returns stand-ins for imports. Of WASI, drivers use only what libc needs to start: the environment and the clock. */
function standIns(module: WebAssembly.Module, memory: () => WebAssembly.Memory): WebAssembly.Imports {
  const NOT_SUPPORTED = 58;
  const known: Record<string, (...args: number[]) => number> = {
    environ_sizes_get(count, size) {
      const view = new DataView(memory().buffer);
      view.setUint32(count!, 0, true);
      view.setUint32(size!, 0, true);
      return 0;
    },
    environ_get: () => 0,
    clock_time_get(_id, _precision, result) {
      new DataView(memory().buffer).setBigUint64(result!, BigInt(Math.round(performance.now() * 1e6)), true);
      return 0;
    },
    proc_exit(code) {
      throw new Error(`the program exited with code ${code}`);
    },
  };
  const imports: Record<string, Record<string, CallableFunction>> = {};
  for (const { module: from, name } of WebAssembly.Module.imports(module))
    (imports[from] ??= {})[name] = known[name] ?? (() => NOT_SUPPORTED);
  return imports as WebAssembly.Imports;
}
