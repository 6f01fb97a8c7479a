/** A snapshot of a running instance, as Wizer takes it, keeps the heap: state is in memory, where the snapshot finds it. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { build } from "../tools/compiler.ts";
import { startReactor } from "../tools/wasi.ts";
import { WIZER, skip, whyNoWizer, withCompilers } from "./support.ts";

const INPUTS = ["wasi-tests/programs/snapshot.c", "lib/wasm32-wasi/librsbmallocc.a"];
const FUNCTIONS = ["prepare", "churn", "check", "in_use", "end"] as const;

type Program = Readonly<Record<(typeof FUNCTIONS)[number], (argument?: number) => number>>;

async function start(module: WebAssembly.Module): Promise<{ program: Program; memory: WebAssembly.Memory }> {
  const { exports, memory } = await startReactor("node", module);
  return { program: exports as unknown as Program, memory };
}

const reason = whyNoWizer();
await withCompilers((compiler, add) => {
  const name = "a heap used before a snapshot goes on working after it";
  if (reason !== undefined) return skip(`${name} (${compiler.name})`, reason);
  add(name, async () => {
    const file = await build(compiler, {
      inputs: INPUTS,
      includes: ["include"],
      model: "reactor",
      linkFlags: FUNCTIONS.map((exported) => `-Wl,--export=${exported}`),
    });
    const plain = await start(await WebAssembly.compile(readFileSync(file)));
    plain.program.prepare();

    const folder = mkdtempSync(path.join(os.tmpdir(), "rsbmalloc-snapshot-"));
    const output = path.join(folder, "snapshot.wasm");
    const options = [
      "--init-func",
      "prepare",
      "--keep-init-func",
      "true",
      "--allow-wasi",
      "--wasm-bulk-memory",
      "true",
    ];
    execFileSync(process.execPath, [WIZER, file, "-o", output, ...options], { stdio: "pipe" });
    const snapshot = await WebAssembly.compile(readFileSync(output));
    rmSync(folder, { recursive: true });

    // Two instances of it go their own ways.
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
  });
});

test.run();
