/** The port file for Emscripten's --use-port, and the package for CMake. */
import { execFile } from "node:child_process";
import { mkdtemp, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { formatFlags } from "../npm/flags.ts";
import { ROOT } from "../tools/command.ts";
import { emscriptenEnvironment, runEmscripten } from "../tools/emscripten.ts";
import { library, type LibraryTarget } from "../tools/libraries.ts";
import { needs, temporaryFolder } from "./support.ts";

const run = promisify(execFile);
const CMAKE_PACKAGE = `-Drsbmalloc_DIR=${path.join(ROOT, "lib", "cmake", "rsbmalloc")}`;
const PORT = path.join(ROOT, "lib", "wasm32-emscripten", "rsbmalloc.py");
const withPython = needs("python3");
const withEmscripten = needs("python3", "emcc");
const withCMake = needs("emcmake", "cmake");

const folder = temporaryFolder();
// The programs that emcc writes here are scripts, not ES modules.
await writeFile(path.join(folder, "package.json"), JSON.stringify({ type: "commonjs" }));

/** Calls the port's functions as Emscripten does, with stand-ins for its own modules. */
const PORT_DRIVER = `
import importlib.util, json, sys, types

def fail(message):
  sys.exit(message)

spec = importlib.util.spec_from_file_location('rsbmalloc', sys.argv[1])
port = importlib.util.module_from_spec(spec)
spec.loader.exec_module(port)
options, pthreads = json.loads(sys.argv[2])
settings = types.SimpleNamespace(PTHREADS=pthreads, MALLOC='dlmalloc')
shared = types.SimpleNamespace(exit_with_error=fail)
port.handle_options(options, fail)
port.linker_setup(None, settings)
libraries = port.get(None, settings, shared)
port.clear(None, settings, shared)
print(json.dumps([libraries, settings.MALLOC, port.process_args(None), port.show()]))
`;

async function port(options: Record<string, string>, threads = false): Promise<unknown[]> {
  const given = JSON.stringify([options, threads]);
  const { stdout } = await run("python3", ["-B", "-c", PORT_DRIVER, PORT, given]);
  return JSON.parse(stdout) as unknown[];
}

withPython("the port gives Emscripten the library and the headers, and turns off its malloc", async () => {
  const [libraries, malloc, flags] = await port({});
  assert.equal(libraries, [path.join(ROOT, library("wasm32-emscripten"))]);
  assert.is(malloc, "none");
  const [, include] = flags as string[];
  assert.is(path.resolve(include!), path.join(ROOT, "include"));
});

withPython("the port takes the library for threads if the program uses pthreads", async () => {
  const [libraries] = await port({}, true);
  assert.equal(libraries, [path.join(ROOT, library("wasm32-emscripten", "mt"))]);
});

withPython("the port refuses a variant that does not exist", async () => {
  const message = await port({ variant: "none" }).then(String, (error: { stderr: string }) => error.stderr);
  assert.is(message, "variant must be one of standard, compact, hardened, not none\n");
});

withEmscripten("the command in the documentation links a program that works", async () => {
  const program = path.join(folder, "library.js");
  const source = path.join(ROOT, "wasi-tests", "programs", "emscripten-wrapper.c");
  const flags = ["-sMALLOC=none", source, `-L${path.dirname(PORT)}`, "-lrsbmallocc", "-o", program];
  await run("emcc", flags, { env: emscriptenEnvironment() });
  assert.is((await runEmscripten(program)).stdout, "3 alive, 0 in the end\n");
});

withEmscripten("the port alone links a program with rsbmalloc and without dlmalloc", async () => {
  const { stdout: root } = await run("em-config", ["EMSCRIPTEN_ROOT"]);
  const program = path.join(folder, "port.js");
  const source = path.join(ROOT, "wasi-tests", "programs", "emscripten-wrapper.c");
  const emcc = [source, "--profiling-funcs", "-o", program];
  const driver = path.join(ROOT, "wasi-tests", "programs", "use-port.py");
  await run("python3", ["-B", driver, root.trim(), PORT, ...emcc], { env: emscriptenEnvironment() });
  assert.is((await runEmscripten(program)).stdout, "3 alive, 0 in the end\n");
  const names = await readFile(program.replace(/\.js$/, ".wasm"), "latin1");
  assert.match(names, "rsbmalloc/heap/");
  assert.not.match(names, "dlmalloc");
});

withCMake("CMake finds the package and links programs with its targets", async () => {
  const source = path.join(ROOT, "wasi-tests", "programs", "cmake");
  const options = { env: emscriptenEnvironment() };
  await run("emcmake", ["cmake", "-S", source, "-B", folder, CMAKE_PACKAGE], options);
  await run("cmake", ["--build", folder], options);
  const standard = await runEmscripten(path.join(folder, "standard.js"));
  assert.is(standard.stdout, "3 alive, 0 in the end\n");
  const beside = await runEmscripten(path.join(folder, "beside.js"));
  assert.is(beside.stdout, "0 bytes wrong\n");
});

/** Returns the package's targets in CMake, each with its library, or the error message if CMake fails. */
async function cmakeTargets(...definitions: readonly string[]): Promise<string[] | string> {
  const source = path.join(ROOT, "wasi-tests", "programs", "cmake", "targets");
  const build = await mkdtemp(path.join(folder, "targets-"));
  const options = definitions.map((definition) => `-D${definition}`);
  return run("cmake", ["-S", source, "-B", build, CMAKE_PACKAGE, ...options]).then(
    ({ stdout }) => [...stdout.matchAll(/^-- rsbmalloc::(.*)$/gm)].map(([, target]) => target!).sort(),
    ({ stderr }: { stderr: string }) => stderr.replace(/\s+/g, " "),
  );
}

needs("cmake")(
  "CMake has a target for each library of the project's triple, whatever the project's language",
  async () => {
    const libraries = (target: LibraryTarget, ...names: readonly string[]) =>
      names.map((name) => `${name} ${library(target, name === "rsbmalloc" ? "" : name)}`);
    const one = ["rsbmalloc", "compact", "prefixed", "hardened", "prefixed-hardened"];
    const threads = ["mt", "locked", "mt-hardened"];
    const wasi = libraries("wasm32-wasi", ...one).sort();
    assert.equal(await cmakeTargets("CMAKE_C_COMPILER_TARGET=wasm32-wasi"), wasi);
    assert.equal(await cmakeTargets("CMAKE_CXX_COMPILER_TARGET=wasm32-wasip1"), wasi);
    assert.equal(await cmakeTargets("CMAKE_CXX_COMPILER_TARGET=wasm32"), wasi);
    assert.equal(await cmakeTargets("CMAKE_SYSTEM_NAME=WASI"), wasi);
    for (const triple of ["wasm32-wasi-threads", "wasm32-wasip1-threads"])
      assert.equal(
        await cmakeTargets("CMAKE_SYSTEM_NAME=WASI", `CMAKE_CXX_COMPILER_TARGET=${triple}`),
        libraries("wasm32-wasi-threads", ...threads).sort(),
      );
    assert.equal(
      await cmakeTargets("EMSCRIPTEN=1"),
      libraries("wasm32-emscripten", ...one, ...threads).sort(),
    );
  },
);

/** Returns the folder of the libraries that `rsbmalloc flags` names for a triple; undefined if it refuses the triple. */
function folderOf(target: string): string | undefined {
  try {
    const variant = target.endsWith("-threads") ? "mt" : undefined;
    return /-L(\S+)/.exec(formatFlags({ target, libs: true, ...(variant ? { variant } : {}) }))![1];
  } catch {
    return undefined;
  }
}

needs("cmake")("CMake accepts the same triples as rsbmalloc flags, with the same libraries", async () => {
  const triples = ["wasm32", "wasm32-unknown-unknown"];
  for (const system of ["wasi", "wasip1", "emscripten", "wasi-threads", "wasip1-threads"])
    triples.push(`wasm32-${system}`, `wasm32-unknown-${system}`);
  for (const triple of triples) {
    const targets = await cmakeTargets("CMAKE_SYSTEM_NAME=WASI", `CMAKE_C_COMPILER_TARGET=${triple}`);
    assert.ok(Array.isArray(targets), `${triple}: ${targets}`);
    const [, folder] = / (\S+)\//.exec(targets[0]!)!;
    assert.is(folderOf(triple), folder, triple);
  }
  for (const triple of [
    "wasm32-wasip2",
    "wasm32-wasip1-other",
    "wasm64-unknown-emscripten",
    "x86_64-wasm32",
  ]) {
    assert.is(folderOf(triple), undefined);
    const message = await cmakeTargets("CMAKE_SYSTEM_NAME=WASI", `CMAKE_C_COMPILER_TARGET=${triple}`);
    assert.match(String(message), /no library for .*emcmake.* wasm32-wasip1/);
  }
});

needs("cmake")(
  "CMake accepts the package for its version or major version, and refuses later and other exact ones",
  async () => {
    const { version } = JSON.parse(await readFile(path.join(ROOT, "package.json"), "utf8"));
    const [major, minor] = version.split(".").map(Number);
    const find = (wanted: string) => cmakeTargets("CMAKE_C_COMPILER_TARGET=wasm32", `wanted=${wanted}`);
    for (const wanted of [`${major}`, `${major}.${minor}`, `${version};EXACT`])
      assert.ok(Array.isArray(await find(wanted)), wanted);
    for (const wanted of [`${major}.${minor + 1}`, `${major + 1}`, `${major}.${minor}.99;EXACT`])
      assert.match(String(await find(wanted)), `version: ${version}`);
  },
);

withCMake("CMake without a wasm compiler fails with a message that says what to do", async () => {
  const source = path.join(ROOT, "wasi-tests", "programs", "cmake");
  const native = path.join(folder, "native");
  // Otherwise CMake would use the compiler that CC names for the tests.
  const { CC: _, ...env } = process.env;
  const message = await run("cmake", ["-S", source, "-B", native, CMAKE_PACKAGE], { env }).then(
    () => "",
    (error: { stderr: string }) => error.stderr.replace(/\s+/g, " "),
  );
  assert.match(message, "configure with emcmake");
});

test.run();
