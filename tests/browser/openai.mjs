/**
 * Embed texts with OpenAI's client in a page: node openai.mjs PAGE SERVER REQUESTS
 *
 * PAGE is the address of openai.html, SERVER that of embergem, and REQUESTS a JSON list of {key, request}. Prints the
 * JSON list of what the page got.
 */

import { inChromium } from "./chromium.mjs";

const [page, server, requests] = process.argv.slice(2);
const found = await inChromium(page, async (opened) => {
  await opened.waitForFunction(() => window.ready);
  const results = [];
  for (const { key, request } of JSON.parse(requests)) {
    results.push(await opened.evaluate(([...args]) => window.embed(...args), [server, key, request]));
  }
  return results;
});
console.log(JSON.stringify(found));
