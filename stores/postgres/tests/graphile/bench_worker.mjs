// Handles jobs without doing anything: node bench_worker.mjs URL default|batched
//
// Prints "ready" and waits for a line. Then prints "first" when the first job starts, and "handled N" while no job is left to
// start.
import { once } from "node:events";
import { Logger, run } from "graphile-worker";

const [connectionString, settings] = process.argv.slice(2);
const worker =
  settings === "batched"
    ? {
        concurrentJobs: 24,
        maxPoolSize: 10,
        localQueue: { size: 500 },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
      }
    : { concurrentJobs: 10, maxPoolSize: 10 };

let handled = 0;
let quiet;
const say = () => console.log(`handled ${handled}`);
const taskList = {
  order: async () => {
    if (handled === 0) console.log("first");
    handled += 1;
    clearTimeout(quiet);
    quiet = setTimeout(say, 5);
  },
};

console.log("ready");
await once(process.stdin, "data");
await run({
  preset: {
    worker: {
      connectionString,
      ...worker,
      logger: new Logger(() => (level, message) => level === "error" && console.error(message)),
    },
  },
  taskList,
  noHandleSignals: true,
});
