/** The npm package as a user gets it: packed, installed in an empty folder, and used from there. */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, readdirSync, renameSync, writeFileSync } from "node:fs";
import path from "node:path";
import { build as bundle } from "esbuild";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ROOT } from "../tools/command.ts";
import { build, findCompiler } from "../tools/compiler.ts";
import { runProgram } from "../tools/wasi.ts";
import { assemble } from "./support-wat.ts";
import { KEEP_NAMES, temporaryFolder, withCompilers } from "./support.ts";

const USER = temporaryFolder("rsbmalloc package ");
const PACKAGE = path.join(USER, "node_modules", "rsbmalloc");

function run(folder: string, command: string, ...args: readonly string[]): string {
  return execFileSync(command, args, { cwd: folder, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

const npmInstall = (name: string) =>
  run(USER, "npm", "install", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund", name);
const inUser = (name: string, contents: string | Uint8Array) =>
  writeFileSync(path.join(USER, name), contents);
const rsbmalloc = (...words: readonly string[]) => run(USER, "npx", "rsbmalloc", ...words).trim();
const flags = (...options: readonly string[]) => rsbmalloc("flags", ...options);

/** Runs the command, which must refuse with one line, and returns that. */
function refusal(...words: readonly string[]): string {
  try {
    rsbmalloc(...words);
  } catch (error) {
    const { status, stderr } = error as { status: number; stderr: string };
    assert.is(status, 1);
    const lines = stderr.split("\n").filter((line) => line && !line.startsWith("npm warn"));
    assert.is(lines.length, 1, stderr);
    return lines[0]!;
  }
  return assert.unreachable("the command did not refuse") as never;
}

test.before(() => {
  run(ROOT, "make", "dist");
  run(ROOT, "npm", "pack", "--pack-destination", USER);
  const [tarball] = readdirSync(USER).filter((name) => name.endsWith(".tgz"));
  inUser("package.json", JSON.stringify({ name: "user", private: true, type: "module" }));
  npmInstall(tarball!);
});

test("the package has the libraries, header, documentation and licenses, and no TypeScript sources", () => {
  const files = readdirSync(PACKAGE, { recursive: true, encoding: "utf8" });
  for (const file of [
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "docs/inspect.md",
    "include/rsbmallocc.h",
    "lib/rsbmalloc.wasm",
    "lib/wasm32-wasi/librsbmallocc.a",
  ]) {
    assert.ok(files.includes(path.normalize(file)), file);
  }
  assert.equal(
    files.filter((file) => file.endsWith(".ts") && !file.endsWith(".d.ts")),
    [],
  );
});

/** The anchor that GitHub gives a heading. */
const anchor = (heading: string) =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, "")
    .replaceAll(" ", "-");

test("every relative link in the package's pages leads to a file or heading in the package", () => {
  const pages = ["README.md", ...readdirSync(path.join(PACKAGE, "docs")).map((name) => `docs/${name}`)];
  const texts = new Map(
    pages
      .filter((page) => page.endsWith(".md"))
      .map((page) => [page, readFileSync(path.join(PACKAGE, page), "utf8")]),
  );
  const links = [...texts].flatMap(([page, text]) =>
    [...text.matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)/g)].map(([link, to, heading]) => {
      const target = to ? path.posix.join(path.posix.dirname(page), to) : page;
      return { where: `${page}: ${link}`, target, heading };
    }),
  );
  assert.ok(links.length > 0);
  for (const { where, target, heading } of links) {
    assert.ok(existsSync(path.join(PACKAGE, target)), where);
    if (heading === undefined) continue;
    const headings = [...texts.get(target)!.matchAll(/^#+ (.*)$/gm)].map(([, title]) => anchor(title!));
    assert.ok(headings.includes(heading), where);
  }
});

test("rsbmalloc flags prints the flags for the compiler, for the linker, or for both", () => {
  const [include, lib] = ["include", path.join("lib", "wasm32-wasi")].map((folder) =>
    path.join("node_modules", "rsbmalloc", folder),
  );
  assert.is(flags(), `-I${include} -L${lib} -lrsbmallocc`);
  assert.is(flags("--target", "wasm32-wasip1"), flags());
  assert.is(flags("--cflags"), `-I${include}`);
  assert.is(flags("--libs", "--prefixed"), `-L${lib} -lrsbmallocc-prefixed`);
});

test("rsbmalloc flags refuses unknown targets, variants and options in one line", () => {
  assert.match(refusal("flags", "--target", "wasm64"), /no library for target wasm64.*wasm32-wasi/);
  assert.match(refusal("flags", "--variant", "turbo"), /no library with --variant turbo.*--prefixed/);
  assert.match(refusal("flags", "--variant"), /--variant .*missing/);
  assert.match(refusal("flags", "--turbo"), "unknown option '--turbo'");
  assert.match(refusal("flags", "app.c"), "too many arguments for 'flags'");
});

test("unknown commands and options, and missing or too many arguments, are refused in one line", () => {
  assert.match(refusal("--turbo"), "unknown option '--turbo'");
  assert.match(refusal("-x", "flags"), "unknown option '-x'");
  assert.match(refusal("--json", "inspect", "app.wasm"), "unknown option '--json'");
  assert.match(refusal("turbo"), "unknown command 'turbo'; see rsbmalloc --help");
  assert.match(refusal("help", "turbo"), "unknown command 'turbo'; see rsbmalloc --help");
  assert.match(refusal("flags", "--constructor"), "unknown option '--constructor'");
  assert.match(refusal("swap"), "missing required argument 'module'");
  assert.match(refusal("swap", "a.wasm", "b.wasm", "--dry-run"), "too many arguments for 'swap'");
});

test("every command and every entry point of the package can be loaded", () => {
  const help = run(USER, "npx", "rsbmalloc", "--help");
  const [, commands] = /Commands:\n(.*)/s.exec(help)!;
  const names = [...commands!.matchAll(/^ {2}(?!help)(\w+)/gm)].map(([, name]) => name!);
  assert.ok(names.includes("flags") && names.length > 2, help);
  for (const name of names) assert.match(run(USER, "npx", "rsbmalloc", name, "--help"), `rsbmalloc ${name}`);

  const { exports } = JSON.parse(readFileSync(path.join(PACKAGE, "package.json"), "utf8"));
  const entries = Object.keys(exports).filter((entry) => !/\.(json|wasm)$/.test(entry));
  for (const entry of entries) {
    const name = path.posix.join("rsbmalloc", entry);
    run(USER, process.execPath, "--input-type=module", "--eval", `await import("${name}")`);
  }
});

test("the modules have no helper functions of the compiler, which minifiers of bundlers may break", () => {
  const modules = readdirSync(path.join(PACKAGE, "dist"), { recursive: true, encoding: "utf8" });
  for (const name of modules.filter((file) => file.endsWith(".js")))
    assert.not.match(readFileSync(path.join(PACKAGE, "dist", name), "utf8"), /\b__\w+ = /, name);
});

test("Binaryen is not installed with the package, and the commands that need it say how to install it", () => {
  assert.not.ok(existsSync(path.join(USER, "node_modules", "binaryen")));
  const module = path.join(PACKAGE, "lib", "rsbmalloc.wasm");
  for (const words of [
    ["swap", module, "--dry-run"],
    ["inspect", "--leaks", module],
    ["inspect", "--every", "5", module],
  ])
    assert.match(refusal(...words), /: this needs the npm package binaryen, .*: npm install binaryen@\d+$/);
});

test("the version of Binaryen that messages and pages name is that of the package's peer dependency", () => {
  const { peerDependencies } = JSON.parse(readFileSync(path.join(PACKAGE, "package.json"), "utf8"));
  const [, major] = /^\^(\d+)\./.exec(peerDependencies.binaryen)!;
  const advice = refusal("swap", path.join(PACKAGE, "lib", "rsbmalloc.wasm"), "--dry-run");
  assert.match(advice, new RegExp(`binaryen@${major}$`));
  for (const page of ["README.md", "docs/swap.md", "docs/inspect.md"]) {
    const named = readFileSync(path.join(PACKAGE, page), "utf8").matchAll(/binaryen@(\d+)/g);
    assert.equal([...new Set([...named].map(([, version]) => version))], [major], page);
  }
});

test("a bundler keeps the command, a module with side effects, and drops functions that are not used", async () => {
  const bundled = async (contents: string): Promise<string> => {
    const stdin = { contents, resolveDir: USER };
    const { outputFiles } = await bundle({
      stdin,
      bundle: true,
      write: false,
      format: "esm",
      platform: "node",
      external: ["binaryen"],
    });
    return outputFiles[0]!.text;
  };
  assert.match(await bundled(`import "./node_modules/rsbmalloc/dist/cli.js";`), "rsbmalloc --help");
  const one = await bundled(`import { formatText } from "rsbmalloc/inspect"; console.log(formatText);`);
  assert.match(one, "linear memory");
  assert.not.match(one, "<!doctype html>");
});

const PROGRAM = `
#include <rsbmallocc.h>
#include <stdio.h>
#include <stdlib.h>
int main(void) {
  char *block = malloc(20000);
  printf("%d %zu\\n", block != NULL, rsbmalloc_usable_size(block));
  rsbfree(block);
}
`;

await withCompilers((compiler, add) => {
  add("a C program compiles and links with the installed package, and can be inspected", async () => {
    inUser("app.c", PROGRAM);
    let program = path.join(USER, "app.wasm");
    if (compiler.name === "npm") {
      const words = flags().split(" ");
      const named = (letter: string) => words.find((word) => word.startsWith(`-${letter}`))!.slice(2);
      const library = path.join(USER, named("L"), `lib${named("l")}.a`);
      const inputs = [path.join(USER, "app.c"), library];
      program = await build(compiler, { inputs, includes: [path.join(USER, named("I"))] });
    } else {
      const line = `${compiler.name} ${compiler.wasi.join(" ")} app.c $(npx rsbmalloc flags) -o app.wasm`;
      run(USER, "sh", "-ec", line);
    }
    const { stdout, exitCode } = await runProgram("node", program);
    assert.is(exitCode, 0);
    assert.is(stdout, "1 20480\n");

    const report = JSON.parse(run(USER, "npx", "rsbmalloc", "inspect", "--json", program));
    assert.is(report.heaps.length, 1);
  });
});

/** Two modules that share a heap: one allocates blocks, the other resizes and frees them. */
const MAKER = `(module
  (import "env" "memory" (memory 0))
  (import "env" "malloc" (func $malloc (param i32) (result i32)))
  (func (export "make") (param $size i32) (param $fill i32) (result i32)
    (local $block i32)
    (memory.fill (local.tee $block (call $malloc (local.get $size))) (local.get $fill) (local.get $size))
    (local.get $block)))`;
const ENDER = `(module
  (import "env" "memory" (memory 0))
  (import "env" "realloc" (func $realloc (param i32 i32) (result i32)))
  (import "env" "rsbfree" (func $free (param i32)))
  (export "resize" (func $realloc))
  (export "end" (func $free)))`;

const CONSUMER = `
import { readFile } from "node:fs/promises";
import { ENOMEM, instantiate, type Heap, type MallInfo } from "rsbmalloc";
import { lookAt, readHeaps, type HeapReport, type Layout } from "rsbmalloc/inspect";
import { showHeap } from "rsbmalloc/inspect/browser";
import layout from "rsbmalloc/layout.json" with { type: "json" };
import hardened from "rsbmalloc/layout-hardened.json" with { type: "json" };

const heap: Heap = await instantiate({ memory: new WebAssembly.Memory({ initial: 1 }), maximum: 100 });
const env = { memory: heap.memory, ...heap.exports };
const load = async (file: string) => (await WebAssembly.instantiate(await readFile(file), { env })).instance.exports;
const maker = await load("maker.wasm") as { make(size: number, fill: number): number };
const ender = await load("ender.wasm") as { resize(block: number, size: number): number; end(block: number): void };

const block = maker.make(1000, 7) >>> 0;
const own = heap.calloc(10, 10);
const moved = ender.resize(block, 50_000) >>> 0;
const kept = new Uint8Array(heap.memory.buffer, moved, 1000).every((byte) => byte === 7);
const between: MallInfo = heap.mallinfo();
heap.free(moved);
ender.end(own);
heap.malloc(2 ** 31);
const enomem: boolean = heap.errno === ENOMEM;
// @ts-expect-error: sizes are numbers
const wrong = () => heap.malloc("8");
// @ts-expect-error: there is no such option
const wrongOption = () => instantiate({ memry: undefined });
const layouts: Layout[] = [layout, hardened];
const reports: HeapReport[] = readHeaps(heap.memory.buffer, layouts);
const show = (element: Element): (() => void) => showHeap(element, heap.memory, { layouts, every: 500 });
const shared = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
declare const Module: { HEAPU8: Uint8Array };
const emscripten = {
  get buffer() {
    return Module.HEAPU8.buffer;
  },
};
const showOthers = (element: Element) =>
  [{ buffer: shared.buffer }, emscripten].map((memory) => showHeap(element, memory, { layouts }));
console.log(reports.length, typeof show, lookAt(shared, layouts).heaps.length, typeof showOthers);
console.log(kept, between.inUse > 50_000, heap.mallinfo().inUse, enomem, typeof wrong, typeof wrongOption);
`;

/** Type-checks and compiles one of the user's files. */
function compile(file: string, types: readonly string[] = ["node"], lib: readonly string[] = []): void {
  const compilerOptions = {
    target: "ES2022",
    module: "NodeNext",
    resolveJsonModule: true,
    strict: true,
    typeRoots: [path.join(ROOT, "node_modules", "@types")],
    types,
    ...(lib.length > 0 ? { lib } : {}),
  };
  inUser("tsconfig.json", JSON.stringify({ compilerOptions, files: [file] }));
  run(USER, process.execPath, path.join(ROOT, "node_modules", "typescript", "bin", "tsc"), "--project", ".");
}

const CONSUMER_IN_NODE = `
import { instantiate } from "rsbmalloc";
import { inspect } from "rsbmalloc/inspect";
import { showHeap } from "rsbmalloc/inspect/browser";
const { memory } = await instantiate();
export const pages: number = memory.grow(1) + memory.buffer.byteLength / 65536;
export const draw = () => showHeap({ innerHTML: "" }, memory, { layouts: [] });
export { inspect };
// @ts-expect-error: a memory has no such member
memory.size;
`;

test("a TypeScript program without the DOM library type-checks", () => {
  inUser("node.ts", CONSUMER_IN_NODE);
  compile("node.ts", ["node"], ["ES2022"]);
});

test("a TypeScript program with neither the DOM library nor Node's types type-checks", () => {
  const source = `
import { instantiate } from "rsbmalloc";
export const heap = await instantiate({ module: new ArrayBuffer(8) });
// @ts-expect-error: a number is no module
await instantiate({ module: 42 });
`;
  inUser("plain.ts", source);
  compile("plain.ts", [], ["ES2022"]);
  const inBrowser = `${source}
await instantiate({ module: new URL("rsbmalloc.wasm", document.baseURI) });
await instantiate({ module: fetch("rsbmalloc.wasm") });
await instantiate({ module: new WebAssembly.Module(new Uint8Array(8)) });
`;
  inUser("page.ts", inBrowser);
  compile("page.ts", [], ["ES2022", "DOM"]);
});

test("a TypeScript program type-checks, runs, and shares a heap with two modules", () => {
  for (const [name, text] of Object.entries({ maker: MAKER, ender: ENDER }))
    inUser(`${name}.wasm`, assemble(text, { bulk_memory: true }));
  inUser("consumer.ts", CONSUMER);
  compile("consumer.ts");
  assert.is(
    run(USER, process.execPath, "consumer.js"),
    "1 function 0 function\ntrue true 0 true function function\n",
  );
});

test("with Binaryen installed, a module's malloc can be replaced and a program's leaks listed", async () => {
  const { peerDependencies } = JSON.parse(readFileSync(path.join(PACKAGE, "package.json"), "utf8"));
  npmInstall(`binaryen@${peerDependencies.binaryen}`);

  const compiler = await findCompiler("npm");
  const options = { flags: ["-O1"], linkFlags: [KEEP_NAMES] };
  const original = await build(compiler, { inputs: ["wasi-tests/programs/swap.c"], ...options });
  assert.match(rsbmalloc("swap", original, "-o", "swapped.wasm"), /^dlmalloc replaced by rsbmalloc\n/);
  const outputs = [original, path.join(USER, "swapped.wasm")].map((file) => runProgram("node", file));
  const [before, after] = await Promise.all(outputs);
  assert.is(after!.stdout, before!.stdout);

  assert.match(
    rsbmalloc("inspect", "--leaks", original),
    /never freed, from \d+ places?; [\d,]+ calls in total/,
  );

  const products = path.join(PACKAGE, "lib", "swap");
  renameSync(products, `${products}-moved`);
  assert.match(
    refusal("swap", original, "--dry-run"),
    /: cannot read .+\.wasm: run make, or reinstall the package$/,
  );
  renameSync(`${products}-moved`, products);
});

test("rsbmalloc/rsbmalloc.wasm resolves to the stand-alone module", () => {
  const script = `console.log(import.meta.resolve("rsbmalloc/rsbmalloc.wasm"))`;
  const url = new URL(run(USER, process.execPath, "--input-type=module", "--eval", script));
  assert.equal(readFileSync(url), readFileSync(path.join(ROOT, "lib", "rsbmalloc.wasm")));
});

test.run();
