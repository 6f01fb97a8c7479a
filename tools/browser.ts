/** Pages in a browser: a web server for a folder, and the installed Chromium, headless. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { chromium, type Browser } from "playwright-core";
import sirv from "sirv";
import { UserError } from "./command.ts";
import { findProgram } from "./path.ts";

/** Serves a folder on the loopback interface; port 0 means any free port. Returns the address. */
export async function serve(folder: string, port: number): Promise<{ url: string; server: Server }> {
  const files = sirv(folder, {
    dev: true,
    // A cross-origin isolated page has a finer clock.
    setHeaders: (response) => {
      response.setHeader("Cross-Origin-Opener-Policy", "same-origin");
      response.setHeader("Cross-Origin-Embedder-Policy", "require-corp");
    },
  });
  const server = createServer((request, response) => {
    files(request, response, () => void response.writeHead(404).end());
  });
  await new Promise<void>((resolve, reject) => {
    server.on("error", reject);
    server.listen(port, "127.0.0.1", resolve);
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, server };
}

/** Starts the installed Chromium without a window. Throws a UserError if there is none. */
export async function launchChromium(): Promise<Browser> {
  const executablePath = findProgram("chromium");
  if (executablePath === undefined)
    throw new UserError("chromium was not found: install it (Debian: chromium)");
  return chromium.launch({ executablePath, args: CHROMIUM_FLAGS });
}

const CHROMIUM_FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
