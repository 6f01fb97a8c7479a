/** `make browser`: builds the page and serves it until interrupted, on port 8080 or PORT. */
import { serve } from "../tools/browser.ts";
import { UserError, runCommand } from "../tools/command.ts";
import { buildSite } from "./site.ts";

await runCommand(async () => {
  const port = Number(process.env.PORT ?? 8080);
  if (!Number.isInteger(port) || port < 0 || port > 65535) {
    throw new UserError(`PORT=${process.env.PORT} is not a port: use a number from 0 to 65535`);
  }
  const folder = await buildSite();
  const { url } = await serve(folder, port).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EADDRINUSE") throw error;
    throw new UserError(`port ${port} is in use: choose another one, for example make browser PORT=8081`);
  });
  console.log(`Serving the page at ${url} (press Ctrl-C to stop)`);
});
