/** The engines that replay workloads, and the npm packages that they come from. */
import { execFile, execFileSync } from "node:child_process";
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { reasonOf } from "../npm/errors.ts";
import { ROOT, UserError } from "../tools/command.ts";
import { selfTimingDrivers, timeInWizer } from "./cranelift.ts";
import { BENCH, BUILD } from "./toolchain.ts";
import type { Job, Timing } from "./runner.ts";

const run = promisify(execFile);

export interface Engine {
  readonly name: string;
  /** The engine's name and version, for the report. */
  readonly title: string;
  /** The files of bench/c that make up its driver. */
  readonly drivers: readonly string[];
  time(job: Job): Promise<Timing[]>;
}

const platform = `${process.platform}-${process.arch}`;

interface Download {
  /** The npm package with this platform's binary. The engine's main package would need its install script, which is not run. */
  readonly package: string;
  readonly version: string;
  readonly binary: string;
}

const downloads = {
  node26: { package: `node-${platform}`, version: "26.10.0", binary: "bin/node" },
  bun: { package: `@oven/bun-${platform.replace("arm64", "aarch64")}`, version: "1.4.5", binary: "bin/bun" },
  cranelift: { package: `@bytecodealliance/wizer-${platform}`, version: "11.0.3", binary: "wizer" },
} satisfies Record<string, Download>;

const RUNNER = path.join(BENCH, "runner.ts");
const FOLDER = path.join(BUILD, "engines");

/** Returns the path of an engine's binary, which is installed into build/ on first use. Throws a UserError if that fails. */
async function download({ package: name, version, binary }: Download): Promise<string> {
  const file = path.join(FOLDER, "node_modules", name, binary);
  if (existsSync(file)) return file;
  mkdirSync(FOLDER, { recursive: true });
  if (!existsSync(path.join(FOLDER, "package.json")))
    writeFileSync(path.join(FOLDER, "package.json"), "{}\n");
  try {
    await run("npm", ["install", "--ignore-scripts", "--no-audit", "--no-fund", `${name}@${version}`], {
      cwd: FOLDER,
    });
  } catch (error) {
    throw new UserError(`cannot install the npm package ${name}@${version}: ${reasonOf(error)}`);
  }
  return file;
}

/**
 * Returns the V8 option that makes code optimized from the first sample on. The optimizing compiler has its own thread, and
 * on a busy machine would finish after the last sample. Newer versions can wait for it. Older ones, which learn nothing from
 * baseline code, can do without baseline code.
 */
async function optimizedFirst(node: string): Promise<string> {
  const { stdout } = await run(node, ["--v8-options"]);
  return stdout.includes("--wasm-sync-tier-up") ? "--wasm-sync-tier-up" : "--no-liftoff";
}

function javascript(name: string, title: string, binary: string, args: readonly string[], env = {}): Engine {
  return {
    name,
    title,
    drivers: ["replay"],
    async time(job) {
      const file = path.join(BUILD, `job-${name}-${process.pid}.json`);
      writeFileSync(file, JSON.stringify(job));
      try {
        const { stdout } = await run(binary, [...args, RUNNER, file], {
          cwd: ROOT,
          maxBuffer: 1e8,
          env: { ...process.env, ...env },
        });
        return stdout
          .split("\n")
          .filter((line) => line.startsWith("{"))
          .map((line) => JSON.parse(line) as Timing);
      } finally {
        rmSync(file);
      }
    },
  };
}

/** The name of the Node that runs this, such as node20. */
const running = `node${process.versions.node.split(".")[0]}`;

const engines: Readonly<Record<string, () => Promise<Engine>>> = {
  async [running]() {
    const title = `V8 ${process.versions.v8} (Node ${process.versions.node})`;
    const node = process.execPath;
    return javascript(running, title, node, [await optimizedFirst(node), "--import", "tsx"]);
  },
  async node26() {
    const binary = await download(downloads.node26);
    const v8 = execFileSync(binary, ["-p", "process.versions.v8"], { encoding: "utf8" }).trim();
    return javascript("node26", `V8 ${v8} (Node ${downloads.node26.version})`, binary, [
      await optimizedFirst(binary),
    ]);
  },
  async bun() {
    const binary = await download(downloads.bun);
    return javascript("bun", `JavaScriptCore (Bun ${downloads.bun.version})`, binary, [], {
      BUN_JSC_useConcurrentJIT: "0",
    });
  },
  async cranelift() {
    const binary = await download(downloads.cranelift);
    return {
      name: "cranelift",
      title: `Cranelift (Wizer ${downloads.cranelift.version})`,
      drivers: selfTimingDrivers,
      time: (job) => timeInWizer(binary, job),
    };
  },
};

export const engineNames = Object.keys(engines);

/** Returns an engine by name. Throws a UserError if it is unknown or can't be installed. */
export async function engine(name: string): Promise<Engine> {
  const make = engines[name];
  if (!make) throw new UserError(`no such engine: choose from ${engineNames.join(", ")}`);
  return make();
}
