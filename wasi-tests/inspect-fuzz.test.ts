/** `rsbmalloc inspect` with damaged programs and random options: a report or a one-line error, no crash and no hang. */
import path from "node:path";
import { readFile, writeFile } from "node:fs/promises";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { inspect } from "../npm/inspect/index.ts";
import { FOLDER, LAYOUTS, buildProgram, command } from "./support-inspect.ts";
import { refusal } from "./support.ts";

const program = await buildProgram();
const sound = await readFile(program);
const damaged = path.join(FOLDER, "damaged.wasm");

async function expectRefused(module: Uint8Array): Promise<void> {
  await writeFile(damaged, module);
  assert.match(await refusal(inspect(damaged, LAYOUTS, { leaks: true, stdout: 2 })), /damaged\.wasm: /);
}

/** Runs the command. It must either write a one-line error and exit with 1, or print a report or its usage. */
async function expectAnswer(...args: string[]): Promise<void> {
  const { code, stdout, stderr } = await command(...args);
  const what = `${args.join(" ")}: code ${code}, ${stdout.slice(0, 200)} ${stderr.slice(0, 500)}`;
  assert.type(code, "number", what);
  if (/^rsbmalloc: .*\n$/.test(stderr)) assert.is(code, 1, what);
  else assert.match(stdout, /linear memory|"memory":|Usage/, what);
}

test("a truncated program is refused with a one-line error", async () => {
  for (let length = 0; length < sound.length; length += Math.ceil(sound.length / 40)) {
    await expectRefused(sound.subarray(0, length));
  }
});

const hits = (end: number): fc.Arbitrary<[number, number][]> =>
  fc.array(fc.tuple(fc.nat(end - 1), fc.nat(255)), { minLength: 1, maxLength: 8 });

function damage(hits: readonly [number, number][]): Uint8Array<ArrayBuffer> {
  const module = Uint8Array.from(sound);
  for (const [at, byte] of hits) module[at] = byte;
  return module;
}

test("a damaged program that is not a valid module is refused with a one-line error", async () => {
  await fc.assert(
    fc.asyncProperty(hits(sound.length), async (hits) => {
      const module = damage(hits);
      if (!WebAssembly.validate(module)) await expectRefused(module);
    }),
    { numRuns: 100, seed: 1 },
  );
});

test("a damaged program that is still a valid module gets a report or a one-line error, whatever it does", async () => {
  const valid = fc
    .sample(hits(sound.length), { numRuns: 1500, seed: 2 })
    .map(damage)
    .filter((module) => WebAssembly.validate(module));
  assert.ok(valid.length >= 8, `only ${valid.length} of the damaged programs are valid modules`);
  for (const [index, module] of valid.slice(0, 8).entries()) {
    await writeFile(damaged, module);
    await expectAnswer("--timeout", "1", ...(index % 4 === 3 ? ["--leaks"] : []), damaged);
  }
});

test("random options get a report, the usage or a one-line error", async () => {
  const word = fc.oneof(
    fc.constantFrom(
      "--json",
      "--html",
      "--leaks",
      "--every",
      "--timeout",
      "--output",
      "--dir",
      "--help",
      "--",
    ),
    fc.constantFrom(
      "--every=",
      "--timeout=-1",
      "--dir=",
      "--json=3",
      "-x",
      "",
      "0",
      "1ms",
      "1e9",
      FOLDER,
      program,
    ),
    fc.string({ maxLength: 8 }).map((text) => text.replaceAll("\0", "")),
  );
  const lines = fc.sample(fc.array(word, { maxLength: 5 }), { numRuns: 16, seed: 3 });
  for (const line of lines) await expectAnswer(...line);
});

test.run();
