/** Downloads the sources of Debian packages. */
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { reasonOf } from "../../npm/errors.ts";
import { UserError } from "../../tools/command.ts";
import { BUILD } from "../toolchain.ts";

const run = promisify(execFile);

const FOLDER = path.join(BUILD, "sources");
const APT_SOURCES = ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"];

/**
 * Returns the folder with a Debian package's unpacked source, which is downloaded on first use. apt-get is given a list of
 * sources of its own, made from the machine's list of binary packages, and keeps package lists and downloads in build/: the
 * machine's own apt is not touched. Throws a UserError if the source can't be downloaded.
 */
export async function debianSource(name: string): Promise<string> {
  const folder = path.join(FOLDER, name);
  if (existsSync(folder)) return folder;
  try {
    const env = await (environment ??= prepareApt());
    const archives = path.join(FOLDER, "archives");
    mkdirSync(archives, { recursive: true });
    const options = { cwd: archives, env };
    // This may fail because Debian's patches have left the archive while the upstream source, all we need, is still there.
    await run("apt-get", ["source", "--download-only", "-q", name], options).catch(() => undefined);
    const upstream = readdirSync(archives).find(
      (f) => f.startsWith(`${name}_`) && /\.orig\.tar\.\w+$/.test(f),
    );
    if (!upstream) throw new Error("there is no such source package");
    const partial = `${folder}.partial`;
    mkdirSync(partial, { recursive: true });
    await run("tar", ["-xf", path.join(archives, upstream), "-C", partial, "--strip-components=1"]);
    await run("mv", [partial, folder]);
    return folder;
  } catch (error) {
    throw new UserError(`cannot download Debian's source package ${name}: ${reasonOf(error)}`);
  }
}

let environment: Promise<NodeJS.ProcessEnv> | undefined;

/** Returns the environment variables for apt-get, after it has updated the package lists. */
async function prepareApt(): Promise<NodeJS.ProcessEnv> {
  const file = APT_SOURCES.find((f) => existsSync(f));
  if (!file) throw new Error("this is not a Debian system");
  const ending = path.extname(file);
  const list = path.join(FOLDER, `debian${ending}`);
  for (const folder of ["lists/partial", "cache/archives/partial"])
    mkdirSync(path.join(FOLDER, folder), { recursive: true });
  writeFileSync(
    list,
    readFileSync(file, "utf8")
      .replace(/^Types: deb$/gm, "Types: deb-src")
      .replace(/^deb /gm, "deb-src "),
  );
  const configuration = path.join(FOLDER, "apt.conf");
  writeFileSync(
    configuration,
    [
      `Dir::Etc::SourceList "${list}";`,
      `Dir::Etc::SourceParts "-";`,
      `Dir::State::Lists "${path.join(FOLDER, "lists")}";`,
      `Dir::Cache "${path.join(FOLDER, "cache")}";`,
      "",
    ].join("\n"),
  );
  const env = { ...process.env, APT_CONFIG: configuration };
  await run("apt-get", ["update", "-q"], { env });
  return env;
}
