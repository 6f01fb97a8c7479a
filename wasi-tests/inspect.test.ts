/** `rsbmalloc inspect`: what the command reports of a run, and how it refuses unsuitable programs and wrong options. */
import { execFile, spawnSync } from "node:child_process";
import { existsSync, readlinkSync, symlinkSync } from "node:fs";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { setImmediate } from "node:timers/promises";
import { promisify } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { HEADER, customSection, flatten, type Bytes } from "../npm/binary-format.ts";
import { inspect, type RunReport } from "../npm/inspect/index.ts";
import { ROOT } from "../tools/command.ts";
import { FOLDER, LAYOUTS, buildProgram, command, commandUntil, write } from "./support-inspect.ts";
import { assemble } from "./support-wat.ts";
import { CLI, refusal, skip, type Outcome } from "./support.ts";

const program = await buildProgram();

test("the command reports as text, and exits with the program's exit code", async () => {
  const { code, stdout } = await command(program);
  assert.is(code, 3);
  assert.match(stdout, /^round 9$/m);
  assert.match(stdout, /exited with code 3/);
  // 20 names in slots for 29 bytes.
  assert.match(stdout, /^ *32 B +1 +\d+ +20 /m);
});

test("the command reports a trap with its stack, and exits with 1", async () => {
  const { code, stdout } = await command("--json", program, "trap");
  const report = JSON.parse(stdout) as RunReport;
  assert.is(code, 1);
  assert.ok("trap" in report.end);
  assert.is(report.end.stack[0], "abort");
  assert.is(report.heaps.length, 1);
  assert.equal(report.args, ["trap"]);
});

test("an uncaught exception is reported like a trap", async () => {
  const file = await write("throw.wasm", THROWING);
  const { code, stdout, stderr } = await command("--timeout", "60", file);
  assert.is(stderr, "");
  assert.is(code, 1);
  assert.match(stdout, /throw\.wasm: trapped \(uncaught exception\) after /);
});

test("--every takes a sample after so many calls or milliseconds", async () => {
  const calls = await command("--every", "500", "--json", program);
  const { timeline } = JSON.parse(calls.stdout) as RunReport;
  assert.equal(
    timeline.slice(0, 4).map((sample) => sample.calls),
    [500, 1000, 1500, 2000],
  );
  assert.match(calls.stderr, /^.* 500 calls .* in use .*$/m);
  const ms = await command("--every", "1ms", program);
  assert.match(ms.stderr, /^.* ms .* in use .*$/m);
});

test("samples are taken while a program computes without calling its host", async () => {
  // With --json, the program's own output goes to standard error, like the samples. The program prints its last line and
  // then loops forever.
  const looksInLoop = (stderr: string): string[] => {
    const [, after = ""] = stderr.split("round 9\n");
    return after.match(/^.* ms +memory .* in use .*(?=\n)/gm) ?? [];
  };
  const line = ["--json", "--every", "1ms", program, "loop"];
  const stderr = await commandUntil((stderr) => looksInLoop(stderr).length > 3, ...line);
  // The table of 1000 * 100 B and the other blocks that the program has by then.
  assert.match(looksInLoop(stderr).at(-1)!, /in use 104 KiB$/);
});

test("a time limit that expires while a sample is taken still ends the program", async () => {
  const look = () => {
    const end = performance.now() + 5;
    while (performance.now() < end);
  };
  // The limits expire at different moments. Most of the programs loop forever; the others end at about that time.
  for (let run = 0; run < 40; ++run) {
    const timeLimit = 8 + run;
    const args = run % 4 === 0 ? [] : ["loop"];
    const { end } = await inspect(program, LAYOUTS, {
      args,
      every: { ms: 1 },
      timeLimit,
      onSample: look,
      stdout: 2,
    });
    if (args.length > 0 || "timeLimit" in end) assert.equal(end, { timeLimit });
    else assert.equal(end, { exitCode: 3 });
  }
});

test("a time limit that is not a positive whole number is refused", async () => {
  for (const timeLimit of [1500.5, 0, -1, NaN])
    assert.match(
      await refusal(inspect(program, LAYOUTS, { timeLimit })),
      /^timeLimit must be a positive whole number of milliseconds: /,
    );
});

test("a program that loops forever is ended at its time limit, and its heap is reported", async () => {
  // Tries longer and longer limits until the program gets to its loop, however slow the machine is.
  for (const seconds of [1, 5, 25, 125]) {
    const limit = ["--timeout", `${seconds}`];
    const { code, stdout, stderr } = await command(...limit, "--json", program, "loop");
    const report = JSON.parse(stdout) as RunReport;
    assert.is(code, 1);
    assert.equal(report.end, { timeLimit: seconds * 1000 });
    if (!stderr.includes("round 9")) continue;
    assert.ok(report.heaps[0]!.inUse > 20 * 29 + 105_000);
    return;
  }
  assert.unreachable("the program did not get to its loop within any of the limits");
});

const IMPORTING = assemble('(module (import "env" "f" (func)))');
const MEMORY_ALONE = assemble('(module (memory (export "memory") 1))');
const THROWING = assemble(
  '(module (tag $t) (memory (export "memory") 1) (func (export "_start") (throw $t)))',
  { exceptions: true },
);
const LINKING_VERSION = 2;
const LINKING = customSection("linking", LINKING_VERSION);
const OBJECT = flatten([HEADER, LINKING]);

const NO_PROGRAMS: Readonly<Record<string, readonly [string | Uint8Array, RegExp]>> = {
  text: ["hello", /refused\.wasm: not a WebAssembly file$/],
  "an empty file": ["", /: not a WebAssembly file$/],
  "a component": [
    Uint8Array.of(0, 0x61, 0x73, 0x6d, 13, 0, 1, 0),
    /: component: extract its core module first/,
  ],
  "a file that ends in its header": [HEADER.subarray(0, 5), /: Node .* cannot compile the module/],
  "a damaged module": [
    flatten([HEADER, 1, 5, 0]),
    /: Node v\S+ cannot compile the module \(.*\): the file is damaged, or needs a newer Node/,
  ],
  "a module without a memory": [HEADER, /: exports no memory$/],
  "a module that is no program": [MEMORY_ALONE, /neither _start nor _initialize/],
  "a module for another host": [IMPORTING, /: imports env\.f, which is not part of WASI preview 1 \(/],
  "an object file": [OBJECT, /: object file: link it/],
  "an object file with an exported function": [
    flatten([assemble(`(module (import "env" "__linear_memory" (memory 0)) (func (export "f")))`), LINKING]),
    /: object file: link it/,
  ],
  "a linked program with relocations": [
    flatten([MEMORY_ALONE, LINKING]),
    /: has relocations: link it without --emit-relocs$/,
  ],
};

for (const [name, [contents, message]] of Object.entries(NO_PROGRAMS)) {
  test(`${name} is refused with a one-line error`, async () => {
    const file = await write("refused.wasm", contents);
    assert.match(await refusal(inspect(file, LAYOUTS)), message);
  });
}

const WRONG_LINES: Readonly<Record<string, readonly [readonly string[], RegExp]>> = {
  "no program": [[], /missing required argument 'program'/],
  "an empty program name": [[""], /'program'.* is empty/],
  "a missing file": [["missing.wasm"], /missing\.wasm: .*no such file/],
  "--every never": [
    ["--every", "0", program],
    /--every .* Use a time such as 100ms or a number of calls such as 5000/,
  ],
  "--timeout soon": [["--timeout", "soon", program], /--timeout .* whole number of seconds/],
  "--timeout of weeks": [["--timeout", "1000000", program], /--timeout .* from 1 to 999999/],
  "both formats": [["--json", "--html", program], /'--json' cannot be used with .*'--html'/],
  "an output that cannot be written": [["--output", FOLDER, program], /cannot write/],
  "--output without a file name": [[program, "--output"], /--output .*missing/],
  "an option in place of the output": [["--output", "--leaks", program], /--output .* looks like an option/],
  "two outputs": [[program, "-o", "a", "-o", "b"], /--output .* given more than once/],
  "--dir with an empty name": [["--dir=", program], /--dir .* is empty/],
  "--dir with a folder that does not exist": [
    ["--dir", "missing", program],
    /no such file or directory.*'missing'/,
  ],
  "an option of the program that does not follow --": [
    [program, "--app"],
    /unknown option '--app'.* go after --/,
  ],
  "a flag with a value": [["--json=false", program], /unknown option '--json=false'/],
};

/** Adds a test that writes to a full device, or skips it where there is none. */
const onFullDisk = existsSync("/dev/full") ? test : (name: string): void => skip(name, "needs /dev/full");

onFullDisk("a report that does not fit on its device is an error that names the file", async () => {
  const { code, stderr } = await command("--output", "/dev/full", program);
  assert.is(code, 1);
  assert.match(stderr, /^rsbmalloc: cannot write \/dev\/full: .*no space/m);
});

test("--leaks refuses a module without function names and says how to keep them with each linker", async () => {
  const file = await write("nameless.wasm", MEMORY_ALONE);
  assert.match(
    await refusal(inspect(file, LAYOUTS, { leaks: true })),
    /--no-wasm-opt.*older clang: .* without -O .*emcc.*--profiling-funcs/,
  );
});

/** Contents of `name` sections: one that ends too early, and one of which Binaryen knows only the form. */
const STRANGE_NAMES: Readonly<Record<string, readonly [Bytes, RegExp]>> = {
  damaged: [[1, 100], /^rsbmalloc: .*names\.wasm: Binaryen cannot read it \(error .*\): .* link it again\n$/],
  unknown: [[99, 0], /^rsbmalloc: .*names\.wasm: no function named malloc: .*\n$/],
};

for (const [name, [contents, message]] of Object.entries(STRANGE_NAMES)) {
  test(`--leaks refuses a module with ${name} function names with one line and nothing else`, async () => {
    const file = await write("names.wasm", flatten([MEMORY_ALONE, customSection("name", contents)]));
    const { code, stdout, stderr } = await command("--leaks", file);
    assert.equal([code, stdout], [1, ""]);
    assert.match(stderr, message);
  });
}

test("inspect refuses to run in an engine with an incomplete node:wasi and says that it needs Node", async () => {
  const { WASI } = await import("node:wasi");
  const { getImportObject } = WASI.prototype;
  // Bun's node:wasi lacks this method.
  Reflect.deleteProperty(WASI.prototype, "getImportObject");
  const message = await refusal(inspect(program, LAYOUTS)).finally(() =>
    Object.assign(WASI.prototype, { getImportObject }),
  );
  assert.match(message, /needs Node/);
});

test("the memory of a program is garbage-collected after its run", async () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const { WASI } = await import("node:wasi");
  const { start } = WASI.prototype;
  const memories: WeakRef<object>[] = [];
  WASI.prototype.start = function (this: object, instance: WebAssembly.Instance) {
    memories.push(new WeakRef(instance.exports["memory"]!));
    return Reflect.apply(start, this, [instance]);
  } as typeof start;
  try {
    for (let run = 0; run < 4; ++run) await inspect(program, LAYOUTS, { stdout: 2 });
  } finally {
    WASI.prototype.start = start;
  }
  assert.is(memories.length, 4);
  // The WASI object is collected first; the memory that it refers to, a turn of the event loop later.
  for (let turn = 0; turn < 10; ++turn) {
    await setImmediate();
    collect();
  }
  // V8 may still have the last memory in a register.
  assert.ok(memories.filter((memory) => memory.deref()).length < 2);
});

test("a program gets its arguments unchanged, even if they look like options or numbers", async () => {
  for (const args of [["--leaks", "007", "0x10"], ["-5"], ["--", "--json", "--", "-o", ""]]) {
    const { stdout } = await command("--json", program, ...args);
    const expected = args.filter((arg, i) => arg !== "--leaks" && (arg !== "--" || i > 0));
    assert.equal((JSON.parse(stdout) as RunReport).args, expected);
  }
  const { stderr } = await command("--leaks", "007");
  assert.match(stderr, /^rsbmalloc: 007: /);
});

test("a program can use the folders, and has the environment, that it is given", async () => {
  const reader = await buildProgram("inspect-host");
  const file = await write("word.txt", "word");
  const given = await command("--dir", path.dirname(file), reader, file);
  assert.is(given.code, 0, given.stderr);
  const missing = await command(reader, file);
  assert.is(missing.code, 1, missing.stderr);

  await write("other.txt", "other");
  const { end } = await inspect(reader, LAYOUTS, {
    args: ["/data/other.txt"],
    folders: { "/data": path.dirname(file) },
    env: { WORD: "other" },
  });
  assert.equal(end, { exitCode: 0 });
});

test("--output with a number writes to a file of that name", async () => {
  const cli = ["--import", import.meta.resolve("tsx"), path.join(ROOT, "npm", "cli.ts")];
  // Passed on as a number, it would be a file descriptor: 1 is standard output.
  const line = [...cli, "inspect", program, "-o", "1"];
  const { stdout } = await promisify(execFile)(process.execPath, line, { cwd: FOLDER }).catch(
    (error: Outcome) => error,
  );
  assert.not.match(stdout, "linear memory");
  assert.match(await readFile(path.join(FOLDER, "1"), "utf8"), "linear memory");
});

test("the output file is neither changed nor created unless there is a report", async () => {
  const noProgram = await write("no-program.wasm", "hello");
  const [old, fresh] = [await write("old.html", "the last report"), path.join(FOLDER, "fresh.html")];
  for (const output of [old, fresh]) assert.is((await command("-o", output, noProgram)).code, 1);
  assert.is(await readFile(old, "utf8"), "the last report");
  assert.not.ok(existsSync(fresh));
  assert.is((await command("-o", old, program)).code, 3);
  assert.match(await readFile(old, "utf8"), "linear memory");
});

test("a report never overwrites the program, whatever path names it", async () => {
  const contents = await readFile(program);
  const copy = await write("copy.wasm", contents);
  const link = path.join(FOLDER, "link.wasm");
  symlinkSync(copy, link);
  for (const output of [copy, path.relative(ROOT, copy), link]) {
    const { code, stderr } = await command("-o", output, copy);
    assert.is(code, 1);
    assert.match(stderr, /^rsbmalloc: the report would replace the program: .*\n$/);
    assert.equal(await readFile(copy), contents);
  }
});

/** Runs a shell line in which `rsbmalloc` stands for the command, and `inspect` for that with the program. */
function shell(line: string): string {
  const rsbmalloc = [process.execPath, ...CLI].map((word) => `'${word}'`).join(" ");
  const command = line.replace("inspect", `rsbmalloc inspect '${program}'`).replace("rsbmalloc", rsbmalloc);
  const { stdout, stderr } = spawnSync("sh", ["-c", command], { cwd: ROOT, encoding: "utf8" });
  return stdout + stderr;
}

test("the command is silent if the reader of its output stops early", () => {
  assert.is(shell("inspect | true"), "");
});

onFullDisk("the command reports a full disk in one line", () => {
  assert.match(shell("inspect --json 2>&1 >/dev/full | tail -1"), /^rsbmalloc: ENOSPC: .*\n$/);
  for (const option of ["--help", "--version"])
    assert.match(shell(`rsbmalloc ${option} 2>&1 >/dev/full; echo $?`), /^rsbmalloc: ENOSPC: .*\n1\n$/);
});

test("a report that cannot be written completely leaves neither a new file nor a changed one", async () => {
  const old = await write("old.json", "old");
  const unwritten = `${old}-new.json`;
  const target = `${old}-target.json`;
  const link = `${old}-link.json`;
  symlinkSync(target, link);
  for (const file of [old, unwritten, link]) {
    // Files may have no more than 512 bytes, or 1,024 in some shells. Then the file is like one on a full disk.
    const output = shell(`ulimit -f 1; inspect --html --output '${file}' 2>&1`);
    assert.match(output, /rsbmalloc: cannot write \S+\.json: EFBIG.*\n$/);
  }
  assert.is(await readFile(old, "utf8"), "old");
  assert.is(existsSync(unwritten), false);
  assert.is(existsSync(target), false);
  assert.is(readlinkSync(link), target);
});

for (const [name, [args, message]] of Object.entries(WRONG_LINES)) {
  test(`the command refuses ${name} with a one-line error`, async () => {
    const { code, stdout, stderr } = await command(...args);
    assert.is(code, 1);
    assert.is(stdout, "");
    assert.match(stderr, message);
    assert.is(stderr.trim().split("\n").length, 1, stderr);
  });
}

test.run();
