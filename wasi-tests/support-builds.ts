/** For tests of what every build must do: they run on the stand-alone module, and on a compact build of it. */
import { test as add } from "uvu";
import { compileCore } from "../cabi/core.ts";
import { moduleNames } from "../cabi/names.ts";
import { writeStandalone } from "../cabi/standalone.ts";
import { STATE_ALIGNMENT } from "../npm/requirements.ts";
import { newHeap } from "./support-heap.ts";

export type NewHeap = typeof newHeap;

const { module, stateSize } = await compileCore(["src/index.ts"], ["RSB_COMPACT"], []);
const requirements = { stateSize, stateAlignment: STATE_ALIGNMENT };
const compact = new WebAssembly.Module(Uint8Array.from(writeStandalone(module, moduleNames(), requirements)));

/** `newHeap` for the compact build. */
export const newCompactHeap: NewHeap = (options = {}) => newHeap({ module: compact, ...options });

/** Adds a test for each build, whose heaps are made by the function that `body` gets. */
export function test(name: string, body: (newHeap: NewHeap) => Promise<void>): void {
  add(name, () => body(newHeap));
  add(`compact: ${name}`, () => body(newCompactHeap));
}

test.run = add.run;
