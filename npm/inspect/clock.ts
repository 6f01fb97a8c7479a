/** Calls a function every so often while this thread runs WebAssembly, which no timer can interrupt. */
import { Worker } from "node:worker_threads";

const KEY = "rsbmalloc.look";

/**
 * V8 handles an inspector's messages where it checks its stack: at each call and each turn of a loop. They go one at a time.
 * A time limit that ends a look may leave what goes on below it, so that is ended by a message of its own. Where it has
 * ended meanwhile, that message ends whatever runs next, and perhaps not before "over" arrives: that is said again and again.
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
 * Runs `body`, and `look` meanwhile, every `ms` milliseconds. In a thread that is not the main one `look` is never called.
 * Returns undefined where a time limit within `body` ended more than it was set to.
 */
export async function withClock<Result>(
  ms: number,
  look: () => void,
  body: () => Result,
): Promise<Result | undefined> {
  const thread = new Worker(THREAD, { eval: true, workerData: ms });
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
