/** Imports `node:wasi` without the warning that it is experimental, which Node emits when it is first loaded. */
export async function importNodeWasi(): Promise<typeof import("node:wasi")> {
  const { emitWarning } = process;
  process.emitWarning = ((warning: string | Error, ...rest: unknown[]) => {
    if (!String(warning).includes("WASI")) Reflect.apply(emitWarning, process, [warning, ...rest]);
  }) as typeof emitWarning;
  try {
    return await import("node:wasi");
  } finally {
    process.emitWarning = emitWarning;
  }
}
