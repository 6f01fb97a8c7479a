/** Records a traced program's allocations (trace.ts) and reports where the blocks that it never freed come from. */
import { WASM_PAGE } from "../webassembly.ts";
import { groupBy } from "./group.ts";
import { nameless } from "./names.ts";
import { TRACED, isTracedName, type Traced } from "./traced.ts";

/** Blocks that were never freed, allocated with the same call stack. */
export interface LeakSite {
  readonly blocks: number;
  /** Total of the requested sizes. */
  readonly bytes: number;
  /** The functions that were running, innermost first, without the allocation function itself. */
  readonly stack: readonly string[];
}

export interface LeakReport {
  readonly blocks: number;
  readonly bytes: number;
  /** Calls to allocation functions in the whole run. */
  readonly calls: number;
  /** Largest total first. */
  readonly sites: readonly LeakSite[];
}

interface Block {
  readonly size: number;
  readonly stack: string;
}

export interface Recorder {
  /** Functions that the traced module calls: see trace.ts. */
  readonly enter: () => void;
  readonly leave: (traced: number, result: number, a: number, b: number, c: number) => void;
  readonly report: () => LeakReport;
}

/** The most frames, of JavaScript and WebAssembly, that a stack trace has. */
const STACK_DEPTH = 64;

/** Returns a recorder. `word` reads the program's memory; `onCall` receives the number of calls so far. */
export function recordAllocations(
  word: (address: number) => number,
  withStacks: boolean,
  onCall: (calls: number) => void,
): Recorder {
  const blocks = new Map<number, Block>();
  /** Each stack trace once: they are long, and many blocks may have the same. */
  const stacks = new Map<string, string>();
  let calls = 0;
  let depth = 0;

  const shared = (stack: string): string => {
    const known = stacks.get(stack);
    if (known === undefined) stacks.set(stack, stack);
    return known ?? stack;
  };
  const add = (address: number, size: number): void => {
    if (address !== 0)
      blocks.set(address >>> 0, { size: size >>> 0, stack: withStacks ? shared(stackTrace()) : "" });
  };
  const drop = (address: number): void => void blocks.delete(address >>> 0);
  const move = (from: number, to: number, size: number): void => {
    if (to !== 0) drop(from);
    add(to, size);
  };
  const roundUp = (size: number): number => Math.ceil((size >>> 0) / WASM_PAGE) * WASM_PAGE;
  /** What a call to each function did, given its result and its arguments. */
  const effects: Readonly<Record<Traced, (result: number, a: number, b: number, c: number) => void>> = {
    malloc: (result, size) => add(result, size),
    calloc: (result, count, size) => add(result, count * size),
    realloc: (result, from, size) => move(from, result, size),
    reallocarray: (result, from, count, size) => move(from, result, count * size),
    aligned_alloc: (result, _, size) => add(result, size),
    memalign: (result, _, size) => add(result, size),
    posix_memalign: (error, at, _, size) => {
      if (error === 0) add(word(at >>> 0), size);
    },
    valloc: (result, size) => add(result, size),
    pvalloc: (result, size) => add(result, roundUp(size)),
    page_alloc: (result, size) => add(result, size),
    page_realloc: (result, from, size) => move(from, result, size),
    free: (_, block) => drop(block),
    free_sized: (_, block) => drop(block),
    free_aligned_sized: (_, block) => drop(block),
    page_free: (_, block) => drop(block),
  };

  return {
    // One allocation function may call another: only the outermost call counts.
    enter: () => void (depth += 1),
    leave: (traced, result, a, b, c) => {
      depth -= 1;
      if (depth > 0) return;
      effects[TRACED[traced]!](result, a, b, c);
      calls += 1;
      onCall(calls);
    },
    report: () => {
      const left = [...blocks.values()];
      return { blocks: left.length, bytes: sumOf(left), calls, sites: sitesOf(left) };
    },
  };
}

/** Returns the places that blocks come from, largest total first. */
function sitesOf(blocks: readonly Block[]): LeakSite[] {
  const traces = [...groupBy(blocks, ({ stack }) => stack)].map(([stack, group]) => ({
    stack: readableStack(stack),
    group,
  }));
  // One call in the source may be several in the code, for example in an unrolled loop.
  return [...groupBy(traces, ({ stack }) => stack.join("\n")).values()]
    .map((same): LeakSite => {
      const group = same.flatMap((trace) => trace.group);
      return { blocks: group.length, bytes: sumOf(group), stack: same[0]!.stack };
    })
    .sort((a, b) => b.bytes - a.bytes);
}

function sumOf(blocks: readonly Block[]): number {
  return blocks.reduce((sum, { size }) => sum + size, 0);
}

function stackTrace(): string {
  const before = Error.stackTraceLimit;
  Error.stackTraceLimit = STACK_DEPTH;
  const { stack = "" } = new Error();
  Error.stackTraceLimit = before;
  return stack;
}

/**
 * Returns the program's functions in a stack trace of V8's, innermost first, by name if the program has names, otherwise
 * by index. A line is `at name (wasm://wasm/module-hash:wasm-function[index]:offset)`, and `module.` may precede the name.
 */
export function wasmFrames(stack: string): string[] {
  const frames = stack.matchAll(
    /^ *at (?:(.*) \()?wasm:\/\/wasm\/(?:(.*)-)?[0-9a-f]+:wasm-function\[(\d+)\]/gm,
  );
  return [...frames].map(([, full = "", module, index]) => {
    const name = module && full.startsWith(`${module}.`) ? full.slice(module.length + 1) : full;
    // A rewritten program may have indices as names: trace.ts.
    return name === "" || /^\d+$/.test(name) ? nameless(name || index!) : name;
  });
}

function readableStack(stack: string): string[] {
  const frames = wasmFrames(stack);
  const outermost = frames.findLastIndex((name) => TRACED.some((traced) => isTracedName(name, traced)));
  // The function that called `leave` may have no name.
  return frames.slice(Math.max(outermost, 0) + 1);
}
