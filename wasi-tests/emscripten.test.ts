/** The library for Emscripten, linked with many settings of the installed release. */
import { execFileSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import path from "node:path";
import covertable from "covertable";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ROOT } from "../tools/command.ts";
import {
  EmscriptenError,
  buildEmscripten,
  linkLibrary,
  runEmscripten,
  type EmscriptenProgram,
} from "../tools/emscripten.ts";
import { library } from "../tools/libraries.ts";
import { emscripten } from "./support-emscripten.ts";
import { functionNames, needs, rejection } from "./support.ts";

const check = needs("emcc");
const RSBMALLOC = linkLibrary();
const program = (name: string): string => `wasi-tests/programs/emscripten-${name}`;
const LOADER = path.join(ROOT, "wasi-tests", "programs", "load-emscripten.mjs");
/** Without -fno-builtin, clang would remove calls of malloc whose results are not used. */
const HEAP = ["-fno-builtin", "-sEXPORTED_FUNCTIONS=_main,_malloc,_free"];

async function buildAndRun(inputs: readonly string[], flags: readonly string[]) {
  return runEmscripten(await buildEmscripten(emscripten, { inputs, flags }));
}

/** The values of each setting. Every pair of values of two settings occurs in one of the programs. */
const SETTINGS = {
  optimization: ["-O0", "-O1", "-O2", "-O3", "-Os", "-Oz"],
  lto: ["", "-flto"],
  growth: ["", "-sALLOW_MEMORY_GROWTH", "-sALLOW_MEMORY_GROWTH -sMAXIMUM_MEMORY=64MB"],
  initial: ["", "-sINITIAL_MEMORY=24MB"],
  aborting: ["-sABORTING_MALLOC=0", "-sABORTING_MALLOC=1"],
  assertions: ["", "-sASSERTIONS=2"],
  safeHeap: ["", "-sSAFE_HEAP=1"],
  closure: ["", "--closure=1"],
  form: ["", "-sMODULARIZE", "-sMODULARIZE -sEXPORT_ES6"],
};

/** Whether memory has a limit that is reached quickly, and malloc then returns NULL instead of aborting. */
function isLimited(row: { growth: string; aborting: string }): boolean {
  return row.aborting.endsWith("0") && row.growth !== "-sALLOW_MEMORY_GROWTH";
}

for (const row of covertable.make(SETTINGS)) {
  const flags = Object.values(row).flatMap((flag) => (flag === "" ? [] : flag.split(" ")));
  check(`a program allocates, grows memory and ends with success with ${flags.join(" ")}`, async () => {
    const build: EmscriptenProgram = {
      inputs: [program("heap.c")],
      flags: [...flags, ...RSBMALLOC, ...HEAP, ...(isLimited(row) ? ["-DLIMITED"] : [])],
      output: row.form.includes("ES6") ? "program.mjs" : "program.js",
    };
    const script = await buildEmscripten(emscripten, build);
    const { stdout, stderr, exitCode } = row.form
      ? await runEmscripten(LOADER, [script])
      : await runEmscripten(script);
    const said = stdout + stderr;
    assert.is(exitCode, 0, said);
    assert.match(said, "heap ok");
    assert.match(said, /used +\d+\npeak +\d+\n/);
    if (row.form) assert.match(said, /from JavaScript: 7 true/);
  });
}

check(
  "if memory cannot grow and ABORTING_MALLOC is on, malloc aborts with Emscripten's message",
  async () => {
    const flags = ["-O1", "-DLIMITED", ...RSBMALLOC, ...HEAP];
    const { stderr, exitCode } = await buildAndRun([program("heap.c")], flags);
    assert.is.not(exitCode, 0);
    assert.match(stderr, /Aborted\((OOM|Cannot enlarge memory)/);
  },
);

/** Builds a program whose memory cannot grow. Returns a function that runs it and returns what it prints. */
async function buildFull(flags: readonly string[]): Promise<(...args: readonly string[]) => Promise<string>> {
  const all = ["-O1", "-fno-builtin", ...flags, ...RSBMALLOC];
  const script = await buildEmscripten(emscripten, { inputs: [program("full.c")], flags: all });
  return async (...args) => (await runEmscripten(script, args)).stdout;
}

check("calls that succeed do not change errno, even if they tried to grow memory and could not", async () => {
  const run = await buildFull(["-sABORTING_MALLOC=0"]);
  assert.is(await run("shrink"), "1 0\n");
  for (const size of [64, 1000]) assert.match(await run("count", `${size}`), /^\d+ blocks\n$/);
});

check("with ABORTING_MALLOC, malloc and realloc do not abort as long as there is memory", async () => {
  const [ending, other] = [
    await buildFull(["-sABORTING_MALLOC=1"]),
    await buildFull(["-sABORTING_MALLOC=0"]),
  ];
  for (const size of ["64", "1000", "16000"])
    assert.is(await ending("count", size), await other("count", size));
  assert.is(await ending("resize"), "1\n");
});

check(
  "malloc_footprint and emmalloc_free_dynamic_memory are right when memory is out, and take none",
  async () => {
    const run = await buildFull(["-sABORTING_MALLOC=0"]);
    assert.is(await run("report"), "1 1 0\n");
  },
);

for (const malloc of ["dlmalloc", "emmalloc"]) {
  check(`the library replaces ${malloc} even without -sMALLOC=none`, async () => {
    const flags = [`-sMALLOC=${malloc}`, "--profiling-funcs", "-O1", ...HEAP, library("wasm32-emscripten")];
    const script = await buildEmscripten(emscripten, { inputs: [program("heap.c")], flags });
    assert.match((await runEmscripten(script)).stdout, "heap ok");
    const names = functionNames(await readFile(script.replace(/\.js$/, ".wasm")));
    assert.equal(
      names.filter((name) => /^(dl|em)(malloc|free)|dispose_chunk/.test(name)),
      [],
    );
  });

  check(`the prefixed library works beside ${malloc}`, async () => {
    const prefixed = library("wasm32-emscripten", "prefixed");
    const flags = [`-sMALLOC=${malloc}`, "-Iinclude", "-O1", "-sALLOW_MEMORY_GROWTH", prefixed];
    assert.is((await buildAndRun([program("beside.c")], flags)).stdout, "0 bytes wrong\n");
  });
}

for (const variant of ["", "hardened"]) {
  const name = path.basename(library("wasm32-emscripten", variant));
  check(`emmalloc_realloc_try and aligned_realloc keep blocks' contents: ${name}`, async () => {
    const flags = ["-O1", "-fno-builtin", "-Iinclude", ...linkLibrary(variant)];
    const { stdout, stderr } = await buildAndRun([program("in-place.c")], flags);
    assert.is(stdout, "in place\n", stderr);
  });
}

check(
  "the hardened library works with SAFE_HEAP, which checks the alignment that each access promises",
  async () => {
    const safe = ["-O1", "-sSAFE_HEAP=1", "-sASSERTIONS=2", "-sALLOW_MEMORY_GROWTH", ...HEAP];
    const { stdout, stderr } = await buildAndRun([program("heap.c")], [...safe, ...linkLibrary("hardened")]);
    assert.match(stdout, "heap ok", stderr);
  },
);

for (const flags of [["-O0"], ["-O2", "-sASSERTIONS=2"], ["-O2", "-flto"]]) {
  check(`a program's own malloc over emscripten_builtin_malloc works with ${flags.join(" ")}`, async () => {
    const { stdout } = await buildAndRun([program("wrapper.c")], [...flags, ...RSBMALLOC]);
    assert.is(stdout, "3 alive, 0 in the end\n");
  });
}

for (const flags of [
  ["-O0", "-fexceptions"],
  ["-O2", "-fwasm-exceptions"],
]) {
  check(`C++ containers, over-aligned objects and exceptions work with ${flags.join(" ")}`, async () => {
    const all = ["-std=c++17", ...flags, "-sALLOW_MEMORY_GROWTH", ...RSBMALLOC];
    const { stdout } = await buildAndRun([program("cpp.cc")], all);
    assert.is(stdout, "700 keys, 8 at most, 100 caught, 1 1\n");
  });
}

for (const form of [["-O1"], ["-O2", "-sEXPORT_ES6", "--closure=1"]]) {
  check(`classes bound with embind work with ${form.join(" ")}`, async () => {
    const flags = ["--bind", "-sMODULARIZE", "-sALLOW_MEMORY_GROWTH", "--no-entry"];
    const exported = ["-sEXPORTED_FUNCTIONS=_malloc,_free"];
    const script = await buildEmscripten(emscripten, {
      inputs: [program("embind.cc")],
      flags: [...form, ...flags, ...exported, ...RSBMALLOC],
      output: form.includes("-sEXPORT_ES6") ? "program.mjs" : "program.js",
    });
    const { stdout } = await runEmscripten(LOADER, [script]);
    assert.is(stdout, "from JavaScript: 7 true\nshelf: 9890\n");
  });
}

for (const [name, link] of [
  ["release", RSBMALLOC],
  ["hardened", ["-Iinclude", program("late-free.c"), ...linkLibrary("hardened")]],
] as const) {
  check(`mmap and munmap work with the ${name} library`, async () => {
    const { stdout } = await buildAndRun([program("mmap.c")], link);
    assert.is(stdout, "mmap ok\n");
  });

  for (const [sanitizer, report] of [
    ["address", "SUMMARY: AddressSanitizer: heap-buffer-overflow"],
    ["leak", "Direct leak of 10 byte(s)"],
  ] as const) {
    check(`the ${sanitizer} sanitizer still reports a bug with the ${name} library`, async () => {
      const flags = [`-fsanitize=${sanitizer}`, "-sALLOW_MEMORY_GROWTH", "-sEXIT_RUNTIME", ...link];
      const { stderr } = await buildAndRun([program("sanitized.c")], flags);
      assert.match(stderr, report);
    });
  }
}

/** Functions that show emmalloc's own data structures, which have no counterpart in this library. */
const WITHOUT_COUNTERPART = [
  "emmalloc_blank_slate_from_orbit",
  "emmalloc_compute_free_dynamic_memory_fragmentation_map",
  "emmalloc_dump_memory_regions",
  "emmalloc_validate_memory_regions",
];

check("the library defines every name that Emscripten's mallocs define", async () => {
  const sysroot = execFileSync("em-config", ["CACHE"], { encoding: "utf8" }).trim();
  const libraries = path.join(sysroot, "sysroot", "lib", "wasm32-emscripten");
  const nm = path.join(execFileSync("em-config", ["LLVM_ROOT"], { encoding: "utf8" }).trim(), "llvm-nm");
  const defined = (file: string): string[] =>
    execFileSync(nm, ["--defined-only", "--extern-only", "--format=just-symbols", file], { encoding: "utf8" })
      .split("\n")
      .filter((line) => /^\w+$/.test(line));
  const ours = new Set(defined(path.join(ROOT, library("wasm32-emscripten"))));
  for (const theirs of ["libdlmalloc.a", "libemmalloc.a"]) {
    const missing = defined(path.join(libraries, theirs)).filter((name) => !ours.has(name));
    assert.equal(
      missing.filter((name) => !WITHOUT_COUNTERPART.includes(name)),
      [],
      theirs,
    );
  }
});

check("buildEmscripten throws an error with emcc's messages if a program does not compile", async () => {
  const faulty = { inputs: [program("heap.c")], flags: ["-include", "no-such-header.h"] };
  const error = await rejection(buildEmscripten(emscripten, faulty));
  assert.instance(error, EmscriptenError);
  assert.match(error.message, /emcc cannot build .*emscripten-heap\.c:[^]*no-such-header/);
});

test.run();
