/** All workloads: the recorded traces and the synthetic ones. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { reasonOf } from "../../npm/errors.ts";
import { UserError } from "../../tools/command.ts";
import { note } from "../output.ts";
import { BENCH } from "../toolchain.ts";
import { synthetic, syntheticNames } from "./synthetic.ts";
import { decodeTrace } from "./trace-file.ts";
import { groups, type Group, type Workload } from "./workload.ts";

export const TRACES = path.join(BENCH, "traces");
const ENDING = ".trace.br";

interface Entry {
  readonly name: string;
  readonly group: Group;
  load(): Workload;
}

/**
 * Returns the workloads and groups that `wanted` names, or all workloads if it is empty. Damaged traces are left out, and
 * `report` gets a line for each. Throws a UserError for an unknown name.
 */
export function workloads(wanted: readonly string[], folder = TRACES, report = note): Workload[] {
  const all: Entry[] = [...traces(folder, report)];
  for (const name of syntheticNames) all.push({ name, group: "synthetic", load: () => synthetic(name) });
  const known = new Set([...Object.keys(groups), ...all.map(({ name }) => name)]);
  const unknown = wanted.find((name) => !known.has(name));
  if (unknown !== undefined)
    throw new UserError(
      `there is no workload or group named ${unknown}: choose from ${[...known].join(", ")}`,
    );
  return all
    .filter(({ name, group }) => wanted.length === 0 || wanted.includes(name) || wanted.includes(group))
    .map((entry) => entry.load());
}

function* traces(folder: string, report: (line: string) => void): Generator<Entry> {
  const files = existsSync(folder) ? readdirSync(folder).filter((f) => f.endsWith(ENDING)) : [];
  for (const file of files) {
    try {
      const { name, group, unpack } = decodeTrace(readFileSync(path.join(folder, file)));
      yield { name, group, load: unpack };
    } catch (error) {
      report(`the trace ${file} is left out: ${reasonOf(error)}; make traces will record it again`);
    }
  }
}
