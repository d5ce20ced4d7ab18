// Handles the jobs of the task "kitchen": node worker.mjs URL
//
// Writes each delivery into the table `handled`, like an order, and is then busy for a moment.
import { setTimeout } from "node:timers/promises";
import { Logger, run } from "graphile-worker";

const [connectionString] = process.argv.slice(2);

async function kitchen({ head, body }, helpers) {
  await helpers.query("INSERT INTO public.handled (event_id, body) VALUES ($1, $2)", [
    head.event_id,
    Buffer.from(body, "base64"),
  ]);
  // A worker that is killed here has written the order but not yet completed the job.
  await setTimeout(20);
}

await run({
  preset: {
    worker: {
      connectionString,
      concurrentJobs: 4,
      logger: new Logger(() => (level, message) => level === "error" && console.error(message)),
    },
  },
  taskList: { kitchen },
  noHandleSignals: true,
});
