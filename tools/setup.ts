/**
 * Installs what the tests and benchmarks need besides npm packages: `node --import tsx tools/setup.ts [test|browser|bench]`.
 * As root on Debian it installs the missing packages. Elsewhere it lists them, and the tests that need them are skipped.
 */
import { execFileSync, spawn } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync } from "node:fs";
import path from "node:path";
import spinner from "yocto-spinner";
import { ROOT, UserError, displayPath, runCommand } from "./command.ts";
import { findProgram } from "./path.ts";

interface Package {
  readonly name: string;
  readonly purpose: string;
}

const NATIVE_COMPILER: readonly Package[] = [
  { name: "clang-22", purpose: "a native C compiler for wasm32" },
  { name: "lld-22", purpose: "its linker" },
  { name: "libclang-rt-22-dev-wasm32", purpose: "its runtime library" },
  { name: "wasi-libc", purpose: "the C library for WASI programs" },
  { name: "libc++-22-dev-wasm32", purpose: "the C++ library for WASI programs" },
  { name: "libc++abi-22-dev-wasm32", purpose: "the C++ library for WASI programs" },
];

const EMSCRIPTEN: Package = { name: "emscripten", purpose: "the Emscripten libraries" };
const CHROMIUM: Package = { name: "chromium", purpose: "a browser to run programs in" };

const SCOPES: Readonly<Record<string, readonly Package[]>> = {
  test: [
    ...NATIVE_COMPILER,
    { name: "llvm-22", purpose: "readers of object files" },
    { name: "lld-14", purpose: "an old linker" },
    EMSCRIPTEN,
    { name: "cmake", purpose: "tests of the CMake package" },
    CHROMIUM,
    { name: "spin", purpose: "model checks of the threads code" },
    { name: "gcc", purpose: "a compiler for the C code that spin generates" },
  ],
  browser: [EMSCRIPTEN],
  bench: [...NATIVE_COMPILER, EMSCRIPTEN, CHROMIUM],
};

const LOG = path.join(ROOT, "build", "setup.log");

await runCommand(async () => {
  const [scope = "test"] = process.argv.slice(2);
  const packages = SCOPES[scope];
  if (!packages)
    throw new UserError(`setup: unknown argument ${scope}: use ${Object.keys(SCOPES).join(", ")}`);
  const missing = missingPackages(packages);
  if (missing.length === 0) return;
  if (existsSync("/etc/debian_version") && process.getuid?.() === 0) await install(missing);
  else for (const { name, purpose } of missing) console.log(`missing: ${name} (${purpose})`);
});

function missingPackages(packages: readonly Package[]): Package[] {
  return packages.filter(({ name }) => !isInstalled(name));
}

/** Elsewhere than on Debian, a package counts as installed if there is a command of the same name. */
function isInstalled(name: string): boolean {
  try {
    const query = ["-W", "-f", "${db:Status-Status}", name];
    return execFileSync("dpkg-query", query, { stdio: "pipe", encoding: "utf8" }) === "installed";
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") return false;
    return findProgram(name) !== undefined;
  }
}

/** Does not fail if a package cannot be installed: the tests that need it will report it. */
async function install(missing: readonly Package[]): Promise<void> {
  mkdirSync(path.dirname(LOG), { recursive: true });
  const names = missing.map(({ name }) => name);
  const progress = spinner({ text: `Installing ${names.join(", ")}` }).start();
  await apt("update");
  await apt("install", ...names);
  // apt-get installs nothing if one of the names is unknown to this Debian release.
  for (const { name } of missingPackages(missing)) await apt("install", name);
  const left = missingPackages(missing);
  if (left.length === 0) progress.success(`Installed ${missing.length} Debian packages`);
  else progress.warning(`apt-get did not install everything (${displayPath(LOG)} has its messages)`);
  for (const { name, purpose } of left) console.log(`missing: ${name} (${purpose})`);
}

function apt(...command: readonly string[]): Promise<void> {
  const log = openSync(LOG, "a");
  const options = ["--quiet", "--yes", "--no-install-recommends", "--option=DPkg::Lock::Timeout=300"];
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  return new Promise((resolve) => {
    const child = spawn("apt-get", [...options, ...command], { stdio: ["ignore", log, log], env });
    // The child has its own descriptor.
    closeSync(log);
    child.on("error", () => resolve());
    child.on("exit", () => resolve());
  });
}
