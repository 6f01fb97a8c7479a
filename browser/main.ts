/** `make browser`: builds the page and serves it until it is interrupted. PORT chooses the port, 8080 by default. */
import { serve } from "../tools/browser.ts";
import { UserError, runCommand } from "../tools/command.ts";
import { buildSite } from "./site.ts";

await runCommand(async () => {
  const port = Number(process.env.PORT ?? 8080);
  if (!Number.isInteger(port) || port < 0 || port > 65535) {
    throw new UserError(`PORT is ${process.env.PORT}, which is no port: use a number from 0 to 65535`);
  }
  const folder = await buildSite();
  const { url } = await serve(folder, port).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EADDRINUSE") throw error;
    throw new UserError(`port ${port} is in use: make browser PORT=8081`);
  });
  console.log(`The page is at ${url}; Ctrl-C ends the server.`);
});
