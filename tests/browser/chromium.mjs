/** Chromium for browser tests: opens a page, and fails on errors of the page. */

import { chromium } from "playwright-core";

/** Start Chromium. The variable CHROMIUM names the browser; the default is the one of Debian's package. */
export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: process.getuid?.() === 0 ? ["--no-sandbox"] : [], // the sandbox refuses to run as root
  });
}

/**
 * Open `url` in Chromium and return what `visit(page)` returns.
 *
 * An uncaught exception in the page fails the run.
 */
export async function inChromium(url, visit) {
  const browser = await launch();
  try {
    const page = await browser.newPage();
    const faults = [];
    page.on("pageerror", (error) => faults.push(error));
    await page.goto(url);
    const found = await visit(page);
    if (faults.length > 0) throw faults[0];
    return found;
  } finally {
    await browser.close();
  }
}
