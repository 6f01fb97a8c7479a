/** Finds installed programs. */
import { accessSync, constants } from "node:fs";
import path from "node:path";

/** Returns the path of an executable in PATH, or undefined if there is none of that name. */
export function findProgram(name: string): string | undefined {
  const folders = (process.env.PATH ?? "").split(path.delimiter);
  return folders.map((folder) => path.resolve(folder, name)).find(isExecutable);
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
