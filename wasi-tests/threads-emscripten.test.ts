/** The libraries for threads with Emscripten: pthreads in Node and in headless Chromium. */
import { copyFile, mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ROOT } from "../tools/command.ts";
import { buildEmscripten, linkLibrary, runEmscripten } from "../tools/emscripten.ts";
import { inPage } from "./support-browser.ts";
import { emscripten, withDynamicLinking } from "./support-emscripten.ts";
import { needs } from "./support.ts";
import { VARIANTS, type Variant } from "./support-threads.ts";

const INPUTS = ["wasi-tests/programs/emscripten-threads.c", "wasi-tests/programs/threads.c"];
const FLAGS = [
  "-O2",
  "-fno-builtin",
  "-pthread",
  "-Iinclude",
  "-sEXIT_RUNTIME=1",
  "-sPTHREAD_POOL_SIZE=20",
  "-sDEFAULT_PTHREAD_STACK_SIZE=65536",
  // Ten thousand threads in CI, one after the other.
  ...(process.env.CI === "true" ? ["-DCALLS=40000", "-DVISITS=10000"] : []),
];
const GROWTH = ["-sALLOW_MEMORY_GROWTH", "-Wno-pthreads-mem-growth"];

/** Both threads on which main can run, and both kinds of memory. */
const WAYS = [
  ["-sPROXY_TO_PTHREAD=1", ...GROWTH],
  ["-sPROXY_TO_PTHREAD=0", ...GROWTH],
  ["-sPROXY_TO_PTHREAD=1", "-sINITIAL_MEMORY=64MB"],
];

/** Link options that give a program pthread keys, as std::thread does. */
const KEYS = ["-Wl,-u,pthread_key_create,-u,pthread_setspecific"];

function buildProgram(
  variant: Variant,
  flags: readonly string[],
  environment: NodeJS.ProcessEnv = {},
): Promise<string> {
  const all = [...FLAGS, ...flags, ...linkLibrary(variant)];
  return buildEmscripten(emscripten, { inputs: INPUTS, flags: all, environment });
}

const EXPECTED = [
  "failed calls: 0",
  "a stack for each thread: 0",
  "more in use than before: 0",
  "threads ok",
].join("\n");

for (const variant of [...VARIANTS, "mt-hardened"] as const) {
  for (const flags of WAYS) {
    needs("emcc")(`${variant}: threads work in Node with ${flags.join(" ")}`, async () => {
      const { stdout, stderr } = await runEmscripten(await buildProgram(variant, flags));
      assert.is(stdout.trim(), EXPECTED, stderr);
    });
  }

  needs("emcc", "em-config")(`${variant}: threads work in a main module`, async () => {
    const keys = variant === "mt" ? KEYS : [];
    const flags = ["-sMAIN_MODULE=2", "-Wno-experimental", ...GROWTH, ...keys];
    const script = await buildProgram(variant, flags, await withDynamicLinking());
    const { stdout, stderr } = await runEmscripten(script);
    assert.is(stdout.trim(), EXPECTED, stderr);
  });

  for (const flags of WAYS.slice(0, 2)) {
    needs("emcc", "chromium")(`${variant}: threads work in Chromium with ${flags.join(" ")}`, async () => {
      const script = await buildProgram(variant, [...flags, "-sENVIRONMENT=web,worker"]);
      assert.equal(await runInChromium(script), EXPECTED.split("\n"));
    });
  }
}

/** Runs the program that tells what becomes of a thread's cache when the thread ends. Returns the numbers that it prints. */
async function ends(flags: readonly string[]): Promise<number[]> {
  const program = {
    inputs: ["wasi-tests/programs/emscripten-thread-end.c"],
    flags: [...FLAGS, "-sPROXY_TO_PTHREAD=1", ...GROWTH, ...flags, ...linkLibrary("mt")],
  };
  const { stdout, stderr } = await runEmscripten(await buildEmscripten(emscripten, program));
  const found = /^different blocks: (\d+)\nmore in use: (-?\d+)\n$/.exec(stdout);
  assert.ok(found, stdout + stderr);
  return found!.slice(1).map(Number);
}

/** There are at least four caches: if none was used again, sixteen threads would get more blocks than that. */
const FEW_BLOCKS = 3;

for (const [what, flags] of [
  ["without pthread keys", []],
  ["with pthread keys", KEYS],
] as const) {
  needs("emcc")(`mt: a cache is emptied and handed on when its thread ends, ${what}`, async () => {
    const [different, more] = await ends(flags);
    assert.ok(different! <= FEW_BLOCKS, `${different} different blocks`);
    assert.ok(more! < 4096, `${more} bytes more in use`);
  });

  needs("emcc")(`mt: JavaScript can call malloc on a worker that runs no thread, ${what}`, async () => {
    const program = {
      inputs: ["wasi-tests/programs/emscripten-idle-worker.c"],
      flags: [...FLAGS, "-sEXPORTED_FUNCTIONS=_main,_malloc", ...flags, ...linkLibrary("mt")],
    };
    const { stdout, stderr } = await runEmscripten(await buildEmscripten(emscripten, program));
    assert.is(stdout, "a block, and nothing at address 0\n", stderr);
  });
}

const PAGE = `<!doctype html><script>
var lines = [];
var Module = { print: (line) => lines.push(line), onAbort: (why) => lines.push("aborted: " + why) };
</script><script src="program.js"></script>`;

/** Runs the program in a page that is isolated from other origins, as shared memory requires. Returns what it prints. */
async function runInChromium(script: string): Promise<string[]> {
  const folder = path.join(ROOT, "build", "threads");
  await mkdir(folder, { recursive: true });
  for (const extension of [".js", ".wasm", ".worker.js"]) {
    const file = script.replace(/\.js$/, extension);
    await copyFile(file, path.join(folder, path.basename(file)));
  }
  await writeFile(path.join(folder, "index.html"), PAGE);
  return inPage(folder, async (page) => {
    await page.goto("/");
    await page.waitForFunction(
      "lines.some((line) => line === 'threads ok' || line.startsWith('aborted'))",
      undefined,
      { timeout: 300_000 },
    );
    return (await page.evaluate("lines")) as string[];
  });
}

test.run();
