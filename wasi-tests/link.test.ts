/** The names that the libraries define, and linking programs with them. */
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { readRequirements } from "../npm/requirements.ts";
import { ROOT } from "../tools/command.ts";
import { CompileError, build, compileObject, type Compiler, type Program } from "../tools/compiler.ts";
import { library } from "../tools/libraries.ts";
import { findProgram } from "../tools/path.ts";
import { runProgram, startReactor } from "../tools/wasi.ts";
import { functionNames, rejection, skip, withCompilers } from "./support.ts";
import { LLVMS, checker, sharedOptions, symbols, type Files, type Llvm } from "./support-llvm.ts";

const LIBRARY = library("wasm32-wasi");
const COMPACT_LIBRARY = library("wasm32-wasi", "compact");
const PREFIXED_LIBRARY = library("wasm32-wasi", "prefixed");
const MODULE = "lib/rsbmalloc.wasm";

/** The names that the README and the header document. */
const LIKE_LIBC = "malloc free calloc realloc aligned_alloc posix_memalign malloc_usable_size".split(" ");
const FURTHER = ["memalign", "valloc", "pvalloc", "reallocarray", "free_sized", "free_aligned_sized"];
const INTERNAL_TO_LIBC = ["__libc_malloc", "__libc_free", "__libc_calloc"];
const OWN = ["rsbpage_alloc", "rsbpage_realloc", "rsbpage_free", "rsbmallinfo", "rsbmalloc_check"];
const PREFIXED = [...[...LIKE_LIBC, ...FURTHER].map((name) => `rsb${name}`), ...OWN];

const product = async (file: string) => new Uint8Array(await readFile(path.join(ROOT, file)));

const named = (type: string, names: readonly string[]): string[] => names.map((name) => `${type} ${name}`);

/** The symbols of a file that are not local, as "TYPE NAME". */
async function publicSymbols(llvm: Llvm, file: string): Promise<string[]> {
  const all = await symbols(llvm, await product(file));
  return all.filter(({ type }) => !/[td]/.test(type)).map(({ type, name }) => `${type} ${name}`);
}

for (const llvm of LLVMS) {
  const check = checker(llvm, "nm");
  const undefinedSymbols = ["U __heap_base", "w __heap_end", "w errno"];

  check(
    "librsbmallocc.a and its compact variant define the standard and the prefixed names, and no others",
    async () => {
      const strong = named("T", [...LIKE_LIBC, ...INTERNAL_TO_LIBC, ...PREFIXED]);
      const expected = [...strong, ...named("W", FURTHER), ...undefinedSymbols];
      for (const file of [LIBRARY, COMPACT_LIBRARY])
        assert.equal((await publicSymbols(llvm, file)).sort(), expected.sort(), file);
    },
  );

  check("librsbmallocc-prefixed.a defines the prefixed names, and no others", async () => {
    const found = await publicSymbols(llvm, PREFIXED_LIBRARY);
    const undefinedHere = undefinedSymbols.filter((symbol) => found.includes(symbol));
    // Before it starts its heap, it makes libc's malloc, if there is one, claim its memory.
    const ofLibc = ["w __libc_malloc", "w __libc_free", "U __indirect_function_table"];
    assert.equal(found.sort(), [...named("T", PREFIXED), ...undefinedHere, ...ofLibc].sort());
  });
}

for (const llvm of LLVMS) {
  const check = checker(llvm, "wasm-ld");
  const folder = "lib/wasm32-emscripten";
  const libraries = readdirSync(path.join(ROOT, folder)).filter((file) => file.endsWith(".a"));

  check("each library for Emscripten links into a position-independent module", async () => {
    for (const library of libraries) {
      const threads = /-mt|-locked/.test(library) ? ["--shared-memory", "--max-memory=1048576"] : [];
      const options = [...sharedOptions(llvm), "--whole-archive", ...threads];
      const files = { "library.a": await product(`${folder}/${library}`) };
      const { files: made } = await llvm.run("wasm-ld", [...options, "library.a", "-o", "out.wasm"], files);
      const names = WebAssembly.Module.exports(new WebAssembly.Module(made["out.wasm"] as BufferSource));
      assert.ok(
        names.some(({ name }) => name === "rsbmalloc"),
        library,
      );
    }
  });
}

test("the stand-alone module exports both sets of names, and imports only memory and addresses", async () => {
  const module = new WebAssembly.Module(await product(MODULE));
  const exports = WebAssembly.Module.exports(module);
  assert.equal(exports.map(({ name }) => name).sort(), [...LIKE_LIBC, ...FURTHER, ...PREFIXED].sort());
  assert.ok(exports.every(({ kind }) => kind === "function"));
  const imports = WebAssembly.Module.imports(module).map(
    ({ module, name, kind }) => `${kind} ${module}.${name}`,
  );
  assert.equal(imports.sort(), [
    "global env.__heap_base",
    "global env.__heap_end",
    "global env.__rsb_state",
    "global env.errno",
    "memory env.memory",
  ]);
});

test("the stand-alone module has the size and alignment of its state in a section, and works in that much", async () => {
  const module = new WebAssembly.Module(await product(MODULE));
  const { stateSize, stateAlignment } = readRequirements(module);
  const memory = new WebAssembly.Memory({ initial: 1 });
  const address = (value: number) => new WebAssembly.Global({ value: "i32" }, value);
  const state = 1024;
  assert.is(state % stateAlignment, 0);
  const heapBase = state + stateSize;
  const env = {
    memory,
    __rsb_state: address(state),
    __heap_base: address(heapBase),
    __heap_end: address(0),
    errno: address(512),
  };
  const { exports } = new WebAssembly.Instance(module, { env });
  const { malloc, rsbfree } = exports as Record<string, (argument: number) => number>;
  const block = malloc!(100);
  assert.ok(block >= heapBase);
  rsbfree!(block);
  const bytes = new Uint8Array(memory.buffer);
  assert.ok(
    bytes.subarray(0, state).every((byte) => byte === 0),
    "a byte before the state was written",
  );
  assert.is(malloc!(0x80000000), 0);
  assert.is(new DataView(memory.buffer).getInt32(512, true), 48);
});

/** The public names that the object which defines `malloc` also defines, from the output of `nm --format=posix`. */
function namesBesideMalloc(listing: string): string[] {
  const members = listing.split(/^\S+:$/m);
  const definitions = members.map((member) =>
    [...member.matchAll(/^(\S+) [TWDBR] /gm)].map(([, name]) => name!),
  );
  return definitions.find((names) => names.includes("malloc")) ?? [];
}

const [npm] = LLVMS as [Llvm, ...Llvm[]];

/**
 * Checks that librsbmallocc.a defines every name of the libc object that defines malloc. If one were missing, a program
 * that uses it would link that object as well, and get duplicate symbols.
 */
async function checkReplaces(libc: string, files: Files): Promise<void> {
  const { stdout } = await npm.run("nm", ["--format=posix", "--extern-only", libc], files);
  const names = namesBesideMalloc(stdout);
  assert.ok(names.includes("free"), `${libc} does not define malloc and free in one object`);
  const ours = (await symbols(npm, await product(LIBRARY))).filter(({ type }) => type === "T");
  assert.equal(
    names.filter((name) => !ours.some((symbol) => symbol.name === name)),
    [],
  );
}

/** Builds and runs a program. Returns its exit code, or the trap's message. */
async function outcome(compiler: Compiler, program: Program): Promise<number | string | undefined> {
  const result = await runProgram("node", await build(compiler, { includes: ["include"], ...program }));
  return result.trap?.message ?? result.exitCode;
}

const PROGRAMS = "wasi-tests/programs";
/** Without it, the compiler would remove some allocations, and assume that malloc does not change errno. */
const AS_WRITTEN = "-fno-builtin";

/** The linker only warns of a function whose type is not what the caller declares. */
const NO_WARNINGS = "-Wl,--fatal-warnings";

const LINKS: readonly (readonly [string, Omit<Program, "inputs">])[] = [
  ...["-O0", "-O1", "-O2", "-O3", "-Os"].map((level) => [level, { flags: [level] }] as const),
  ["-O2 -flto", { flags: ["-O2", "-flto"] }],
  ["--gc-sections", { linkFlags: ["-Wl,--gc-sections"] }],
  ["--no-gc-sections", { linkFlags: ["-Wl,--no-gc-sections"] }],
  ["--stack-first", { linkFlags: ["-Wl,--stack-first"] }],
  ["--strip-all", { linkFlags: ["-Wl,--strip-all"] }],
  ["--export-dynamic", { linkFlags: ["-Wl,--export-dynamic"] }],
];

test("the header's RSB_BINS is at least the number of bins", async () => {
  const { BINS } = JSON.parse(await readFile(path.join(ROOT, "lib/layout.json"), "utf8")) as { BINS: number };
  const header = await readFile(path.join(ROOT, "include/rsbmallocc.h"), "utf8");
  assert.ok(BINS <= Number(/#define RSB_BINS (\d+)/.exec(header)![1]));
});

const DIALECTS = [
  "-std=c89",
  "-std=c99",
  "-std=c17",
  "-std=c2x",
  "-xc++ -std=c++98",
  "-xc++ -std=c++11",
  "-xc++ -std=c++20",
];
const STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

await withCompilers((compiler, add) => {
  add("librsbmallocc.a defines every name of the object with malloc in the sysroot's libc", async () => {
    if (compiler.name === "npm") return checkReplaces("/usr/lib/wasm32-wasip1/libc.a", {});
    const words = [...compiler.wasi, "--print-file-name=libc.a"];
    const file = execFileSync(compiler.name, words, { encoding: "utf8" }).trim();
    return checkReplaces("libc.a", { "libc.a": new Uint8Array(await readFile(file)) });
  });

  const header = `${PROGRAMS}/link-header.c`;
  for (const dialect of DIALECTS) {
    add(`the header compiles without warnings with ${dialect}`, async () => {
      await compileObject(compiler, header, {
        includes: ["include"],
        flags: [...STRICT, ...dialect.split(" ")],
      });
    });
  }

  add("the compiler warns if the result of an allocation is not used", async () => {
    const flags = ["-DIGNORE_RESULT", ...STRICT];
    const error = await rejection(compileObject(compiler, header, { includes: ["include"], flags }));
    assert.instance(error, CompileError);
    assert.match((error as CompileError).messages, /warn_unused_result/);
  });

  const linkers = [{ linker: "its own linker", linkerFlags: [] as string[] }];
  if (compiler.name !== "npm") {
    const old = findProgram("wasm-ld-14");
    if (old)
      linkers.push({
        linker: "wasm-ld-14",
        linkerFlags: [`-fuse-ld=${old}`, "--no-wasm-opt"],
      });
    else skip("linking with an old linker", "needs wasm-ld-14");
  }
  for (const { linker, linkerFlags } of linkers) {
    const old = linkerFlags.length > 0;
    const check = (name: string, run: () => Promise<void>): void => {
      add(`${name}: ${linker}`, run);
    };

    for (const [name, { flags = [], linkFlags = [] }] of LINKS) {
      // Only a linker of the compiler's own version can read its bitcode.
      if (old && flags.includes("-flto")) continue;
      const options = {
        flags: [AS_WRITTEN, ...flags],
        linkFlags: [NO_WARNINGS, ...linkFlags, ...linkerFlags],
      };
      check(`a C program links and runs with ${name}`, async () => {
        assert.is(await outcome(compiler, { inputs: [`${PROGRAMS}/link-all.c`, LIBRARY], ...options }), 0);
      });
      check(`a C++ program links and runs with ${name}`, async () => {
        assert.is(await outcome(compiler, { inputs: [`${PROGRAMS}/link-cpp.cc`, LIBRARY], ...options }), 0);
      });
    }

    check("a C program links and runs with librsbmallocc-compact.a", async () => {
      const inputs = [`${PROGRAMS}/link-all.c`, COMPACT_LIBRARY];
      const linkFlags = [NO_WARNINGS, ...linkerFlags];
      assert.is(await outcome(compiler, { inputs, flags: [AS_WRITTEN], linkFlags }), 0);
    });

    check("a reactor links and runs", async () => {
      const file = await build(compiler, {
        inputs: [`${PROGRAMS}/link-all.c`, LIBRARY],
        includes: ["include"],
        flags: [AS_WRITTEN, "-O2", "-DREACTOR"],
        linkFlags: linkerFlags,
        model: "reactor",
      });
      const { exports } = await startReactor("node", file);
      assert.is((exports as Record<string, () => number>)["check"]!(), 0);
    });

    check("a linked program has no function of libc's malloc", async () => {
      const inputs = [`${PROGRAMS}/link-all.c`, LIBRARY];
      const file = await build(compiler, {
        inputs,
        includes: ["include"],
        flags: [AS_WRITTEN],
        linkFlags: linkerFlags,
      });
      const names = functionNames(await readFile(file));
      assert.ok(names.includes("rsbmalloc"));
      assert.equal(
        names.filter((name) => /^(dl|internal_memalign|dispose_chunk)/.test(name)),
        [],
      );
    });

    check("libc's malloc and the prefixed library work in one program", async () => {
      const inputs = [`${PROGRAMS}/link-beside.c`, PREFIXED_LIBRARY];
      const program = { inputs, flags: [AS_WRITTEN], linkFlags: linkerFlags };
      assert.is(await outcome(compiler, program), 0);
      const file = await build(compiler, { includes: ["include"], ...program });
      const names = functionNames(await readFile(file));
      assert.ok(names.includes("dlmalloc") && names.includes("rsbmalloc"));
    });

    check("a program can define its own reallocarray and valloc, and wrap malloc", async () => {
      const inputs = [`${PROGRAMS}/link-own-names.c`, LIBRARY];
      const linkFlags = ["-Wl,--wrap=malloc", ...linkerFlags];
      assert.is(await outcome(compiler, { inputs, flags: [AS_WRITTEN], linkFlags }), 0);
    });

    check("a program that defines its own malloc does not link with this one as well", async () => {
      const inputs = [`${PROGRAMS}/link-own-malloc.c`, LIBRARY];
      const program = { inputs, includes: ["include"], flags: [AS_WRITTEN], linkFlags: linkerFlags };
      const error = await rejection(build(compiler, program));
      assert.instance(error, CompileError);
      assert.match((error as CompileError).messages, /duplicate symbol: malloc/);
    });

    for (const [name, bytes] of [
      ["32 MiB", 2 ** 25],
      ["4 GiB", 2 ** 32],
    ] as const) {
      check(`a program whose memory is ${name} from the start has all of it`, async () => {
        const file = await build(compiler, {
          inputs: [`${PROGRAMS}/link-freestanding.c`, LIBRARY],
          includes: ["include"],
          target: "none",
          linkFlags: [`-Wl,--initial-memory=${bytes},--max-memory=${bytes}`, ...linkerFlags],
        });
        const { exports } = await startReactor("node", file);
        assert.is((exports as Record<string, (size: number) => number>)["fill"]!(30_000_000), 1);
      });
    }

    for (const library of [LIBRARY, COMPACT_LIBRARY, PREFIXED_LIBRARY]) {
      check(`a program without libc links and runs with ${path.basename(library)}`, async () => {
        const file = await build(compiler, {
          inputs: [`${PROGRAMS}/link-freestanding.c`, library],
          includes: ["include"],
          target: "none",
          flags: ["-O2"],
          linkFlags: linkerFlags,
        });
        const { fill } = (await startReactor("node", file)).exports as Record<
          string,
          (size: number) => number
        >;
        assert.is(fill!(100), 1);
        assert.is(fill!(10_000_000), 1);
        assert.is(fill!(-1), 0);
      });
    }
  }
});

test.run();
