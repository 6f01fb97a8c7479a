/** Shared by the tests in a browser: a page in headless Chromium. */
import type { Page } from "playwright-core";
import { launchChromium, serve } from "../tools/browser.ts";

/**
 * Runs `body` with a new page. If there is a folder, it is served, and the page's URLs are relative to its root. Rejects as
 * soon as the page throws an error.
 */
export async function inPage<T>(folder: string | undefined, body: (page: Page) => Promise<T>): Promise<T> {
  const served = folder === undefined ? undefined : await serve(folder, 0);
  const browser = await launchChromium();
  try {
    const page = await browser.newPage(served && { baseURL: served.url });
    const failure = new Promise<never>((_, reject) => page.on("pageerror", reject));
    return await Promise.race([body(page), failure]);
  } finally {
    await browser.close();
    served?.server.close();
  }
}
