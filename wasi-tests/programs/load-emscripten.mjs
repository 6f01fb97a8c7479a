// Loads a module that Emscripten made with MODULARIZE, as a script or as an ES module, and uses its heap and classes.
import { createRequire } from "node:module";
import path from "node:path";

const file = process.argv[2];
const require = createRequire(file);
// Old releases use these in ES modules too, and open files by their URLs if not told otherwise.
Object.assign(globalThis, { require, __dirname: path.dirname(file) });

const create = file.endsWith(".mjs") ? (await import(file)).default : require(file);
const module = await create({ locateFile: (name) => path.join(path.dirname(file), name) });

const block = module._malloc(1000);
module.HEAPU8.fill(7, block, block + 1000);
const larger = module._malloc(10_000_000);
console.log(`from JavaScript: ${module.HEAPU8[block + 999]} ${module.HEAPU8.length > larger + 10_000_000}`);
module._free(larger);
module._free(block);

if (module.Shelf) {
  const shelf = new module.Shelf();
  for (let i = 0; i < 1000; i++) shelf.add(`title ${i}`);
  console.log(`shelf: ${shelf.joined().length}`);
  shelf.delete();
}
