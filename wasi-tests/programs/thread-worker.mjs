// A thread of a test: instantiates the module on the memory that all share, and makes the calls that it is told.
import { Worker, parentPort, workerData } from "node:worker_threads";

const { module, memory, nextId, secret, calls, stack, start, instances = 1 } = workerData;

/** The host's part of the wasi-threads convention. */
function spawn(argument) {
  const id = Atomics.add(nextId, 0, 1);
  const data = { module, memory, nextId, secret, start: { id, argument } };
  new Worker(new URL(import.meta.url), { workerData: data, execArgv: [] });
  return id;
}

/** For the hardened library. */
function random_get(at, count) {
  new Uint8Array(memory.buffer, at, count).fill(secret);
  return 0;
}

const results = [];
for (let i = 0; i < instances; i++) {
  const { exports } = new WebAssembly.Instance(module, {
    env: { memory },
    wasi: { "thread-spawn": spawn },
    wasi_snapshot_preview1: { random_get },
  });
  if (start) {
    exports.wasi_thread_start(start.id, start.argument);
  } else {
    exports.__stack_pointer.value = stack;
    for (const [name, ...args] of calls) results.push(exports[name](...args));
  }
}
parentPort.postMessage(results);
