/**
 * Write a picture of each view of the playground in light and dark: node screenshots.mjs SERVER DIRECTORY
 *
 * The server has the default model and, to show prompts and tokens, EmbeddingGemma with random weights and the real
 * tokenizer. The pictures are WebP with at most `LARGEST` bytes. Prints the JSON list of their paths.
 */

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { launch } from "./chromium.mjs";

const [server, directory] = process.argv.slice(2);
const LARGEST = 100_000;
const GEMMA = "random-embeddinggemma-300m";

/** Height of the pictures in CSS pixels; what matters of each view is above it. */
const HEIGHTS = { compare: 1115, map: 980, search: 860, inspect: 860, status: 970 };

/** How to bring each view into the state of its picture. */
const VIEWS = {
  async compare(page) {
    await page.waitForSelector(".panels li:nth-child(3)");
    await page.getByRole("application").focus();
    for (const key of ["ArrowDown", "ArrowDown", "ArrowLeft", "Enter"]) await page.keyboard.press(key);
  },
  async map(page) {
    await page.waitForSelector(".categories li");
    await page.getByLabel("Colour by").selectOption("topic");
    await page.getByLabel("Lines that contain").fill("telescope");
    await page.click("#view-map .result-line");
    await page.waitForSelector("#view-map .result-line .score");
  },
  async search(page) {
    await page.waitForSelector(".ranking li");
  },
  async inspect(page) {
    await page.locator(".settings select").selectOption(GEMMA);
    const view = page.locator("#view-inspect");
    await view.getByLabel("Task", { exact: true }).selectOption("document");
    await view.getByLabel("Title").fill("Graphene");
    await page.waitForFunction(() => document.querySelector(".exact")?.textContent.startsWith("title: Graphene"));
  },
  async status(page) {
    await page.waitForSelector(".chart canvas");
    const body = (i) => ({
      model: "default",
      input: Array.from({ length: 1 + (i % 12) }, (_, line) => `Request ${i} of ${Date.now()}, line ${line}, with some more words.`),
    });
    const until = Date.now() + 100_000;
    for (let i = 0; Date.now() < until; i++) {
      await fetch(`${server}/v1/embeddings`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body(i)),
      });
      await page.waitForTimeout(60 + 55 * (1 + Math.sin(i / 40)));
    }
  },
};

const browser = await launch();
mkdirSync(directory, { recursive: true });
const paths = [];
for (const [view, prepare] of Object.entries(VIEWS)) {
  const page = await browser.newPage({ viewport: { width: 1280, height: HEIGHTS[view] }, colorScheme: "light" });
  page.setDefaultTimeout(60_000);
  await page.goto(`${server}/#${view}`);
  await prepare(page);
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await page.mouse.move(0, 0);
    await page.evaluate(() => {
      scrollTo(0, 0);
      document.activeElement.blur();
    });
    await page.waitForTimeout(400); // colours fade
    const path = join(directory, `playground-${view}-${colorScheme}.webp`);
    writeFileSync(path, await webp(page));
    paths.push(path);
  }
  await page.close();
}
await browser.close();
console.log(JSON.stringify(paths));

/** Return the visible part of the page as WebP, in the best quality that fits into `LARGEST`. */
async function webp(page) {
  const session = await page.context().newCDPSession(page);
  for (const quality of [92, 85, 75, 60]) {
    const { data } = await session.send("Page.captureScreenshot", { format: "webp", quality });
    const bytes = Buffer.from(data, "base64");
    if (bytes.length <= LARGEST) return bytes;
  }
  throw new Error(`A picture of ${page.url()} has more than ${LARGEST} bytes.`);
}
