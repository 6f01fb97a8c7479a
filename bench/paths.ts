import path from "node:path";
import { fileURLToPath } from "node:url";

export const BENCH = path.dirname(fileURLToPath(import.meta.url));
export const ROOT = path.dirname(BENCH);
/** Everything that a run makes: modules, downloads, the report. */
export const BUILD = path.join(ROOT, "build", "bench");
