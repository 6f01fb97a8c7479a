/** The script that runs in Chromium. */
import { sample, type Job } from "./sampler.ts";

export const time = (job: Job) =>
  sample(job, async (url) => new Uint8Array(await (await fetch(url)).arrayBuffer()));
