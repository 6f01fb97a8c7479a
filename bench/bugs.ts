/** Runs programs with memory bugs with each allocator, to see which bugs it catches. */
import { readFileSync } from "node:fs";
import vm from "node:vm";
import { reasonOf } from "../npm/errors.ts";
import { startDriver } from "./driver.ts";
import { note, progress } from "./output.ts";
import { bugPeers, layout, linkDriver, type Peer } from "./peers/peers.ts";
import type { BugResult, BugResults } from "./results.ts";

/** In ms: on a damaged heap an allocator may loop forever. */
const TIME_LIMIT = 5000;

interface Bugs {
  readonly memory: WebAssembly.Memory;
  readonly bug_name: (bug: number) => number;
  readonly run_bug: (bug: number) => number;
}

/** Tests the allocators named, or all if none are. Those that can't be built are left out, with a note each. */
export async function measureBugs(wanted: readonly string[]): Promise<BugResults> {
  const rows: BugResult[] = [];
  const found: string[] = [];
  for (const [name, get] of Object.entries(bugPeers)) {
    if (wanted.length > 0 && !wanted.includes(name)) continue;
    try {
      const module = await linkBugs(await get());
      for (const [bug, about] of names(module).entries()) {
        progress(`${name}: ${about}`);
        const row = (rows[bug] ??= { name: about, caught: {} });
        row.caught[name] = isCaught(module, bug);
      }
      found.push(name);
    } catch (error) {
      note(`allocator ${name} is left out: ${reasonOf(error)}`);
    }
  }
  return { peers: found, rows };
}

async function linkBugs(peer: Peer): Promise<WebAssembly.Module> {
  return new WebAssembly.Module(readFileSync(await linkDriver(["bugs"], peer, layout(0, 0, 0))));
}

/** Makes a fresh instance, since each bug needs a heap of its own. */
function start(module: WebAssembly.Module): Bugs {
  return startDriver(module) as unknown as Bugs;
}

function names(module: WebAssembly.Module): string[] {
  const { memory, bug_name } = start(module);
  const found: string[] = [];
  for (let at = bug_name(0); at !== 0; at = bug_name(found.length)) {
    const bytes = new Uint8Array(memory.buffer, at);
    found.push(new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0))));
  }
  return found;
}

function isCaught(module: WebAssembly.Module, bug: number): boolean {
  const { run_bug } = start(module);
  try {
    return vm.runInNewContext("run()", { run: () => run_bug(bug) }, { timeout: TIME_LIMIT }) !== 0;
  } catch (error) {
    // Anything else is a trap, or the allocator has ended the program.
    return (error as NodeJS.ErrnoException).code !== "ERR_SCRIPT_EXECUTION_TIMEOUT";
  }
}
