/** Calls a function at intervals while this thread runs WebAssembly, which timers cannot interrupt. */
import { Worker } from "node:worker_threads";

const KEY = "rsbmalloc.look";

/** The longest that timers wait, in milliseconds: for a longer time they would wait only 1 ms. */
const LONGEST = 2 ** 31 - 1;

/**
 * The other thread, which calls the function by messages to V8's inspector. V8 handles these when it checks its stack, at
 * each call and each iteration of a loop. They are sent one at a time.
 * If the time limit hits while the function runs, it may end only the function and leave the program running, so another
 * message terminates that. If the program has ended in the meantime, this message terminates whatever runs next, possibly
 * before it has handled "over", which is therefore sent again and again.
 */
const THREAD = `
const { Session } = require("node:inspector");
const { parentPort, workerData } = require("node:worker_threads");
const session = new Session();
session.connectToMainThread();
const look = { expression: 'globalThis[Symbol.for("${KEY}")]?.()' };
const over = () => setInterval(() => parentPort.postMessage("over"), 1);
let busy = false;
let ended = false;
setInterval(() => {
  if (busy) return;
  busy = true;
  session.post("Runtime.evaluate", look, (error) => {
    if (ended) over();
    else if (error) session.post("Runtime.terminateExecution", over);
    else busy = false;
  });
}, workerData);
parentPort.on("message", () => {
  ended = true;
  if (!busy) over();
  busy = true;
});
parentPort.postMessage("ready");
`;

/**
 * Runs `body`, and calls `look` every `ms` milliseconds, at most LONGEST, meanwhile, but only if this is the main thread.
 * Returns the result of `body`, or undefined if a time limit within `body` terminated `body` itself.
 */
export async function withClock<Result>(
  ms: number,
  look: () => void,
  body: () => Result,
): Promise<Result | undefined> {
  const thread = new Worker(THREAD, { eval: true, workerData: Math.min(ms, LONGEST) });
  const globals = globalThis as { [key: symbol]: unknown };
  try {
    return await new Promise((resolve, reject) => {
      let result: Result | undefined;
      thread.on("error", reject);
      thread.on("message", (message) => {
        if (message === "over") return resolve(result);
        globals[Symbol.for(KEY)] = look;
        try {
          result = body();
        } catch (error) {
          reject(error as Error);
        }
        thread.postMessage("ended");
      });
    });
  } finally {
    delete globals[Symbol.for(KEY)];
    await thread.terminate();
  }
}
