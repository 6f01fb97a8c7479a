/** Loads modules that use Binaryen. Only some commands need that package, which is large, so users install it themselves. */

/** Throws a one-line Error if Binaryen is not installed. `load` imports a module that uses it. */
export async function withBinaryen<Module>(load: () => Promise<Module>): Promise<Module> {
  return load().catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ERR_MODULE_NOT_FOUND" || !/["']binaryen["']/.test(error.message)) throw error;
    // The major version is that of peerDependencies in package.json.
    throw new Error("this needs the npm package binaryen, which is large: npm install binaryen@131", {
      cause: error,
    });
  });
}
