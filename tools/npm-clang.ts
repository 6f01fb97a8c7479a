/**
 * Runs the npm package's clang in a child process. This clang is a wasm module, with its files in memory, and keeps its
 * thread busy for seconds. It is loaded at the first request; the process ends with its parent.
 */
import { readFile } from "node:fs/promises";
import { posix } from "node:path";
import { Exit, commands, runLLVM, type Tree } from "@yowasp/clang";

export interface Request {
  readonly id: number;
  readonly args: string[];
  /** Maps paths in clang's file system to paths on the host. */
  readonly files: ReadonlyMap<string, string>;
  /** The file to return: a path in clang's file system. */
  readonly output: string;
}

export interface Response {
  readonly id: number;
  /** Absent if clang failed. */
  readonly bytes?: Uint8Array;
  readonly messages: string;
}

/** Returns the folder at a path in a tree, and creates what is missing of it. */
function folderAt(tree: Tree, path: string): Tree {
  const parts = path.split("/").filter((part) => part !== ".");
  return parts.reduce((folder, part) => (folder[part] ??= {}) as Tree, tree);
}

async function fileTree(files: ReadonlyMap<string, string>, output: string): Promise<Tree> {
  const tree: Tree = {};
  for (const [name, file] of files)
    folderAt(tree, posix.dirname(name))[posix.basename(name)] = await readFile(file);
  folderAt(tree, posix.dirname(output));
  return tree;
}

async function answer({ id, args, files, output }: Request): Promise<Response> {
  await runLLVM(undefined, {}, { fetchProgress: () => {} });
  const decoder = new TextDecoder();
  let messages = "";
  const print = (bytes: Uint8Array | null) => {
    if (bytes) messages += decoder.decode(bytes, { stream: true });
  };
  try {
    const options = { stdout: print, stderr: print, decodeASCII: false, synchronously: true };
    const tree = commands.clang(args, await fileTree(files, output), options) as Tree;
    const bytes = folderAt(tree, posix.dirname(output))[posix.basename(output)] as Uint8Array;
    return { id, bytes, messages };
  } catch (error) {
    if (!(error instanceof Exit)) throw error;
    return { id, messages };
  }
}

process.on("message", async (request: Request) => process.send!(await answer(request)));
