/** The tools: what the WASI runtimes report of a program, and the one-line errors about what is missing or wrong. */
import { spawnSync, type ChildProcess } from "node:child_process";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { once } from "node:events";
import { chmodSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { formatFlags, type Flags } from "../npm/flags.ts";
import { WASM_PAGE } from "../npm/webassembly.ts";
import { ROOT, UserError } from "../tools/command.ts";
import { CompileError, build, findCompiler } from "../tools/compiler.ts";
import { RUNTIMES, runProgram, startReactor } from "../tools/wasi.ts";
import { assemble } from "./support-wat.ts";
import { rejection, temporaryFolder, withCompilers } from "./support.ts";

const PROGRAM = "wasi-tests/programs/ends.c";
const FOLDER = temporaryFolder();

await withCompilers((compiler, check) => {
  for (const runtime of RUNTIMES) {
    check(`runProgram reports output, exit code, trap and memory of a program under ${runtime}`, async () => {
      const file = await build(compiler, { inputs: [PROGRAM] });
      const run = (way: string) =>
        runProgram(runtime, file, { args: [way], env: { PLACE: "here" }, stdin: "input" });

      const { memory, ...returned } = await run("return");
      assert.equal(returned, { stdout: "read input, here\n", stderr: "about to return\n", exitCode: 0 });
      assert.is((await run("exit")).exitCode, 3);
      assert.is((await run("grow")).memory, memory + 100 * WASM_PAGE);
      const aborted = await run("abort");
      assert.is(aborted.exitCode, undefined);
      assert.is(aborted.trap?.message, "unreachable");
      assert.match(aborted.trap!.stack, /abort/);
      assert.is(aborted.stderr, "about to abort\n");
    });

    check(`startReactor returns a reactor's exports under ${runtime}`, async () => {
      const file = await build(compiler, { inputs: [PROGRAM], model: "reactor" });
      const { exports } = await startReactor(runtime, file);
      assert.is((exports.twice as (number: number) => number)(21), 42);
    });
  }

  check("build throws a CompileError with the compiler's message if a program does not compile", async () => {
    const source = path.join(FOLDER, "broken.c");
    writeFileSync(source, "int main(void) { return nothing; }\n");
    const error = await rejection(build(compiler, { inputs: [source] }));
    assert.instance(error, CompileError);
    assert.match(error.message, /broken\.c:1:25: error: .*'nothing'/);
  });
});

test("the npm clang restarts after its process was killed, at work or idle", async () => {
  const started: ChildProcess[] = [];
  const note = (message: unknown) => void started.push((message as { process: ChildProcess }).process);
  subscribe("child_process", note);
  try {
    const compiler = await findCompiler("npm");
    const source = path.join(FOLDER, "sound.c");
    writeFileSync(source, "int one(void) { return 1; }\n");
    const args = [...compiler.wasi, "-c", compiler.place(source)];
    // Bypasses the cache of compiled files, which would answer the second time.
    const compile = () => compiler.run(args, [source], path.join(FOLDER, "sound.o"));

    const interrupted = compile();
    started[0]!.kill("SIGKILL");
    assert.match((await rejection(interrupted)).message, /the npm clang ended with SIGKILL/);
    assert.is((await compile()).ok, true);

    // An idle process of the compiler does not keep this one alive, so it is referenced here to see it exit.
    started[1]!.ref();
    started[1]!.kill("SIGKILL");
    await once(started[1]!, "exit");
    assert.is((await compile()).ok, true);
    assert.is(started.length, 3);
  } finally {
    unsubscribe("child_process", note);
  }
});

test("a program that grows memory can run hundreds of times in one process", async () => {
  const compiler = await findCompiler("npm");
  const module = await WebAssembly.compile(readFileSync(await build(compiler, { inputs: [PROGRAM] })));
  for (let run = 0; run < 300; run++) {
    const { exitCode } = await runProgram("node", module, { args: ["grow"] });
    assert.is(exitCode, 0);
  }
});

/** Writes a compiler that succeeds only if asked for its version, and otherwise fails with this message. */
function fakeCompiler(message: string): string {
  const file = path.join(FOLDER, `cc-${message.length}`);
  writeFileSync(file, `#!/bin/sh\n[ "$1" = --version ] && exit\ncat >&2 <<'END'\n${message}\nEND\nexit 1\n`);
  chmodSync(file, 0o755);
  return file;
}

const COMPILERS: readonly (readonly [string, string, RegExp])[] = [
  ["a missing compiler", "no-such-compiler", /compiler no-such-compiler was not found: install it/],
  [
    "a compiler without a wasm target",
    fakeCompiler("error: unable to create target: 'No available targets'"),
    /cannot compile for wasm32: use a clang that can/,
  ],
  [
    "a missing linker",
    fakeCompiler(`error: unable to execute command: program not executable: "wasm-ld"`),
    /cannot find wasm-ld: install lld/,
  ],
  [
    "a missing sysroot",
    fakeCompiler("probe.c:1:10: fatal error: 'stdlib.h' file not found"),
    /cannot find a WASI sysroot: install one/,
  ],
  [
    "any other failure",
    fakeCompiler("error: it is raining"),
    /cannot build a WASI program \(error: it is raining\)/,
  ],
];

for (const [what, cc, message] of COMPILERS) {
  test(`findCompiler answers ${what} with a one-line error`, async () => {
    const error = await rejection(findCompiler(cc));
    assert.instance(error, UserError);
    assert.match(error.message, message);
    assert.not.match(error.message, /\n/);
  });
}

test("runProgram and startReactor leave no temporary files if a module cannot be instantiated", async () => {
  const { TMPDIR } = process.env;
  process.env["TMPDIR"] = FOLDER;
  try {
    const before = readdirSync(FOLDER);
    const module = new WebAssembly.Module(assemble('(module (import "env" "none" (func)))'));
    for (const run of [runProgram, startReactor]) assert.ok(await rejection(run("node", module)));
    assert.equal(readdirSync(FOLDER), before);
  } finally {
    if (TMPDIR === undefined) delete process.env["TMPDIR"];
    else process.env["TMPDIR"] = TMPDIR;
  }
});

/** Runs a command. Returns its exit code and its lines of output. */
function command(args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    cwd: ROOT,
    env: { ...process.env, ...env },
    encoding: "utf8",
  });
  return { status, lines: (stdout + stderr).trim().split("\n") };
}

const COMMANDS: readonly (readonly [string, readonly string[], NodeJS.ProcessEnv, RegExp])[] = [
  ["tools/demo.ts with a missing compiler", ["tools/demo.ts"], { CC: "no-such-compiler" }, /CC=npm/],
  [
    "tools/test.ts with a pattern that fits no file",
    ["tools/test.ts", "nothing"],
    {},
    /no test file in wasi-tests has "nothing" in its name/,
  ],
  [
    "tools/setup.ts with an unknown name",
    ["tools/setup.ts", "nothing"],
    {},
    /unknown argument nothing: use test, /,
  ],
  [
    "rsbmalloc flags for a target that needs a variant",
    ["npm/cli.ts", "flags", "--target", "wasm32-wasi-threads"],
    {},
    /no library without --variant for .*available: .*--variant mt-hardened/,
  ],
  [
    "rsbmalloc flags for a variant that other targets have",
    ["npm/cli.ts", "flags", "--variant", "mt"],
    {},
    /no library with --variant mt for target wasm32-wasi \(use --target wasm32-emscripten or wasm32-wasi-threads\); available: .*--prefixed/,
  ],
  [
    "rsbmalloc flags for a variant that no target has",
    ["npm/cli.ts", "flags", "--variant", "turbo"],
    {},
    /no library with --variant turbo for target wasm32-wasi; available: /,
  ],
  [
    "rsbmalloc flags without an option's value",
    ["npm/cli.ts", "flags", "--target"],
    {},
    /--target .*missing/,
  ],
  [
    "rsbmalloc flags with an empty value",
    ["npm/cli.ts", "flags", "--variant", "", "--libs"],
    {},
    /--variant .* is empty/,
  ],
  [
    "rsbmalloc flags with a value for an option that takes none",
    ["npm/cli.ts", "flags", "--libs", "--prefixed=false"],
    {},
    /unknown option '--prefixed=false'/,
  ],
];

for (const [name, args, env, message] of COMMANDS) {
  test(`${name} prints a one-line error and exits with 1`, () => {
    const { status, lines } = command(["--import", "tsx", ...args], env);
    assert.is(status, 1);
    assert.is(lines.length, 1, lines.join("\n"));
    assert.match(lines[0]!, message);
  });
}

test("usage errors name the help of the command that was called", () => {
  for (const [args, help] of [
    [["flags", "--turbo"], "rsbmalloc flags --help"],
    [["flags", "--variant", ""], "rsbmalloc flags --help"],
    [["swap"], "rsbmalloc swap --help"],
    [["swap", "a.wasm", "-o", "a", "-o", "b"], "rsbmalloc swap --help"],
    [["inspect"], "rsbmalloc inspect --help"],
    [["--turbo"], "rsbmalloc --help"],
  ] as const) {
    const { lines } = command(["--import", "tsx", "npm/cli.ts", ...args]);
    assert.match(lines.join("\n"), `; see ${help}`);
  }
});

test("tools/check-node.cjs refuses an old Node in one line, and accepts this one", () => {
  const script = readFileSync(path.join(ROOT, "tools", "check-node.cjs"), "utf8");
  const future = path.join(FOLDER, "check-node.cjs");
  writeFileSync(future, script.replace(/OLDEST = \d+/, "OLDEST = 1000"));
  const { status, lines } = command([future]);
  assert.is(status, 1);
  assert.equal(lines.length, 1);
  assert.match(lines[0]!, /needs Node\.js 1000 or later and found .*: install/);
  assert.is(command(["tools/check-node.cjs"]).status, 0);
});

test("formatFlags finds the library for every triple and variant", () => {
  const library = (flags: Flags) => formatFlags({ ...flags, libs: true });
  const words = (folder: string, name: string) => `-L${path.join("lib", folder)} -l${name}`;
  for (const target of ["wasm32-wasi", "wasm32-wasip1", "wasm32-unknown-unknown", "wasm32"])
    assert.is(library({ target }), words("wasm32-wasi", "rsbmallocc"));
  assert.is(library({ target: "wasm32-unknown-emscripten" }), words("wasm32-emscripten", "rsbmallocc"));
  for (const target of ["wasm32-wasi-threads", "wasm32-wasip1-threads"])
    for (const variant of ["mt", "locked", "mt-hardened"])
      assert.is(library({ target, variant }), words("wasm32-wasi-threads", `rsbmallocc-${variant}`));
  assert.is(
    library({ prefixed: true, variant: "hardened" }),
    words("wasm32-wasi", "rsbmallocc-prefixed-hardened"),
  );
});

test.run();
