/** A snapshot that Wizer takes of an instance includes the heap: all of the allocator's state is in linear memory. */
import { readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { build } from "../tools/compiler.ts";
import { library } from "../tools/libraries.ts";
import { startReactor } from "../tools/wasi.ts";
import { needsWizer, takeSnapshot, withCompilers } from "./support.ts";

const INPUTS = ["wasi-tests/programs/snapshot.c", library("wasm32-wasi")];
const FUNCTIONS = ["prepare", "churn", "check", "in_use", "end"] as const;

type Program = Readonly<Record<(typeof FUNCTIONS)[number], (argument?: number) => number>>;

async function start(module: WebAssembly.Module): Promise<{ program: Program; memory: WebAssembly.Memory }> {
  const { exports, memory } = await startReactor("node", module);
  return { program: exports as unknown as Program, memory };
}

await withCompilers((compiler, add) => {
  needsWizer(add)(
    "a heap that was used before a snapshot works after it as it would have without",
    async () => {
      const file = await build(compiler, {
        inputs: INPUTS,
        includes: ["include"],
        model: "reactor",
        linkFlags: FUNCTIONS.map((exported) => `-Wl,--export=${exported}`),
      });
      const plain = await start(await WebAssembly.compile(readFileSync(file)));
      plain.program.prepare();

      const snapshot = await WebAssembly.compile(takeSnapshot(file));

      // Two instances of the snapshot do not affect each other.
      const instances = [await start(snapshot), await start(snapshot)];
      for (const [index, { program, memory }] of instances.entries()) {
        assert.ok(plain.program.check() > 800);
        assert.is(program.check(), plain.program.check());
        assert.is(program.in_use(), plain.program.in_use());
        assert.is(memory.buffer.byteLength, plain.memory.buffer.byteLength);
        assert.is(program.churn(20 * (index + 1)), 1);
        assert.ok(program.check() > 800);
        program.end();
        assert.is(program.in_use(), 0);
        program.prepare();
        assert.ok(program.check() > 0);
      }
    },
  );
});

test.run();
