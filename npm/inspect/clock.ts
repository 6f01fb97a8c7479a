/** Calls a function every so often while this thread runs WebAssembly, which no timer can interrupt. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";

const KEY = "rsbmalloc.look";

/** V8 handles an inspector's messages where it checks its stack: at each call and each turn of a loop. */
const THREAD = `
const { Session } = require("node:inspector");
const { parentPort, workerData } = require("node:worker_threads");
const session = new Session();
session.connectToMainThread();
const look = { expression: 'globalThis[Symbol.for("${KEY}")]?.()' };
let busy = false;
setInterval(() => {
  if (busy) return;
  busy = true;
  session.post("Runtime.evaluate", look, (error) => {
    busy = false;
    if (error) session.post("Runtime.terminateExecution");
  });
}, workerData);
parentPort.postMessage("ready");
`;

/** Runs `body`, and `look` meanwhile, every `ms` milliseconds. In a thread that is not the main one `look` is never called. */
export async function withClock<Result>(ms: number, look: () => void, body: () => Result): Promise<Result> {
  const thread = new Worker(THREAD, { eval: true, workerData: ms });
  const globals = globalThis as { [key: symbol]: unknown };
  try {
    await once(thread, "message");
    globals[Symbol.for(KEY)] = look;
    return body();
  } finally {
    delete globals[Symbol.for(KEY)];
    await thread.terminate();
  }
}
