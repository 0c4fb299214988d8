/**
 * Try the playground in Chromium: node playground.mjs ORDER
 *
 * ORDER is JSON: `open` is the address of a server without keys, `closed` that of one with the keys `key` and `admin`,
 * `model` a model with prompts and smaller sizes, `real` a model with real weights, `python` a command, `crate` the
 * directory of a Rust program with the dependencies that the copied one names, and `only` a part of the names of the
 * checks to run. Prints the JSON object of what was found, by the name of the check; an empty list means that all was as
 * expected.
 */

import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { launch } from "./chromium.mjs";

const order = JSON.parse(process.argv[2]);
const AXE = readFileSync(new URL("node_modules/axe-core/axe.min.js", import.meta.url), "utf8");
const VIEWS = ["compare", "map", "search", "inspect", "status"];
/** What shows that a view has its first result. */
const RESULT = {
  compare: ".panels li:nth-child(3)",
  map: ".categories li",
  search: ".ranking li",
  inspect: ".tokens .token",
  status: ".tiles .tile",
};
/** Longest time in milliseconds that the page may be busy without a pause. */
const LONGEST_TASK = 250;
const ATTEMPTS = 4;
const HOSTILE = `"><img src=x onerror="window.hacked=1"><svg onload="window.hacked=1"></svg><script>window.hacked=1</script>`;

const browser = await launch();
const results = {};

/** Open a page; return it with the messages of its console. Messages about failed loads are those of refused requests. */
async function open(address, options = {}) {
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, ...options });
  const messages = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type()) && !message.text().startsWith("Failed to load resource")) {
      messages.push(message.text());
    }
  });
  page.on("pageerror", (error) => messages.push(error.message));
  page.on("dialog", (dialog) => {
    messages.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.setDefaultTimeout(60_000);
  await page.goto(address);
  return { page, messages };
}

async function show(page, view) {
  await page.click(`nav a[href="#${view}"]`);
  await page.waitForSelector(`#view-${view} ${RESULT[view]}`);
}

async function chooseModel(page, model) {
  await page.locator(".settings select").selectOption(model);
}

/** Run a check with a new page; what it returns, and messages of the console, are what is wrong. */
async function check(name, address, run, options) {
  if (!name.includes(order.only)) return;
  const start = performance.now();
  const { page, messages } = await open(address, options);
  try {
    results[name] = [...((await run(page, messages)) ?? []), ...messages];
  } catch (error) {
    results[name] = [String(error), ...messages];
  }
  await page.close();
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  const lines = results[name].map((line) => `\n    ${line}`).join("");
  process.stderr.write(`${name}: ${lines === "" ? "as expected" : "DIFFERENT"} after ${seconds} s${lines}\n`);
}

function expect(found, expected, what) {
  const [a, b] = [JSON.stringify(found), JSON.stringify(expected)];
  return a === b ? [] : [`${what}: ${a} instead of ${b}`];
}

async function post(body) {
  const response = await fetch(`${order.open}/v1/embeddings`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  return (await response.json()).data.map((item) => item.embedding);
}

function cosine(a, b) {
  const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

/** Paste text into the focused element, as the clipboard does. */
async function paste(page, selector, text) {
  await page.locator(selector).evaluate((element, pasted) => {
    const data = new DataTransfer();
    data.setData("text/plain", pasted);
    element.focus();
    element.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
  }, text);
}

/** Begin to note the longest time without a pause. */
async function watchTasks(page) {
  await page.evaluate(() => {
    window.longest = 0;
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) window.longest = Math.max(window.longest, entry.duration);
    }).observe({ type: "longtask", buffered: false });
  });
}

/**
 * Run an attempt up to `ATTEMPTS` times, until none of its tasks is longer than `LONGEST_TASK`. Other work of the machine
 * makes a task longer at times; a task that would freeze the page is long each time.
 */
async function withoutFreeze(page, what, attempt) {
  await watchTasks(page);
  const found = [];
  for (let i = 0; i < ATTEMPTS; i++) {
    await page.evaluate(() => (window.longest = 0));
    await attempt();
    await page.waitForTimeout(100); // the observer is told later
    found.push(Math.round(await page.evaluate(() => window.longest)));
    process.stderr.write(`${what}: the longest task took ${found.at(-1)} ms\n`);
    if (found.at(-1) <= LONGEST_TASK) return [];
  }
  return [`${what}: tasks took ${found.join(", ")} ms`];
}

/** The violations of accessibility rules, and whether the page is wider than the window. */
async function inspectPage(page, where) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run());
  const found = violations.map((one) => `${where}: ${one.id}: ${one.nodes.map((node) => node.target).join(", ")}`);
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  return overflow > 0 ? [...found, `${where}: ${overflow} pixels too wide`] : found;
}

for (const colorScheme of ["light", "dark"]) {
  for (const [device, width] of [["desktop", 1280], ["phone", 360]]) {
    await check(`${colorScheme} on a ${device}`, order.open, async (page) => {
      const found = [];
      for (const model of [order.model, order.real]) {
        await chooseModel(page, model);
        for (const view of VIEWS) {
          await show(page, view);
          found.push(...(await inspectPage(page, `${view} with ${model}`)));
        }
      }
      await page.click("nav a[href='#compare']");
      await page.click("#view-compare button:text('Copy as')");
      found.push(...(await inspectPage(page, "copy as")));
      return found;
    }, { colorScheme, viewport: { width, height: 800 } });
  }
}

await check("the switch changes the colours", order.open, async (page) => {
  const colour = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const before = await colour();
  await page.click("button.theme");
  const dark = await colour();
  await page.click("button.theme");
  return [...expect(before !== dark, true, "another colour"), ...expect(await colour(), before, "the first colour")];
}, { colorScheme: "light" });

await check("compare", order.open, async (page) => {
  await chooseModel(page, order.model);
  await page.waitForSelector(".panels li:nth-child(4)");
  const names = await page.locator(".panel strong").allTextContents();
  const texts = await page.locator("#view-compare .lines .text").evaluateAll((inputs) => inputs.map((input) => input.value));
  const tasks = await page.locator("#view-compare .line-options select").evaluateAll((menus) => menus.map((menu) => menu.value));
  const vectors = [];
  for (const [i, text] of texts.entries()) vectors.push(...(await post({ model: order.model, input: text, task: tasks[i] })));
  const shown = await page.locator(".values td").allTextContents();
  const right = vectors.flatMap((a) => vectors.map((b) => cosine(a, b).toFixed(3).replace("-", "−")));
  const found = [
    ...expect(names, order.forms, "forms"),
    ...expect(tasks.slice(0, 3), ["query", "query", "document"], "tasks"),
    ...expect(shown.filter((value, i) => value !== right[i]), [], "values"),
  ];
  const map = page.getByRole("application");
  await map.focus();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  const value = cosine(vectors[2], vectors[1]).toFixed(4);
  found.push(...expect((await page.textContent(".compare-side .readout b")).trim(), value, "value at the cursor"));
  await page.keyboard.press("Enter");
  const scores = vectors.map((vector) => cosine(vectors[2], vector));
  const nearest = scores.map((_, i) => i).filter((i) => i !== 2).sort((a, b) => scores[b] - scores[a]);
  const listed = await page.locator(".nearest .words").allTextContents();
  found.push(...expect(listed, nearest.map((i) => texts[i]), "nearest lines"));
  await page.click(".panel:has(strong:text('1 bit'))");
  found.push(...expect(await page.textContent("#view-compare .results .card-head .hint"), order.forms.at(-1), "chosen form"));
  return found;
});

await check("a line has a task and a title", order.open, async (page) => {
  await chooseModel(page, order.model);
  await page.waitForSelector(".panels li:nth-child(4)");
  const before = await page.locator(".values td").allTextContents();
  await page.getByLabel("Title of line 3").fill("Beekeeping");
  await page.getByLabel("Task of line 1").selectOption("");
  await page.getByRole("button", { name: "Compare" }).click();
  await page.waitForFunction((old) => document.querySelectorAll(".values td")[1]?.textContent !== old, before[1]);
  const [plain] = await post({ model: order.model, input: await page.getByLabel("Text of line 1").inputValue(), prompt: "" });
  const [titled] = await post({
    model: order.model,
    input: await page.getByLabel("Text of line 3").inputValue(),
    task: "document",
    title: "Beekeeping",
  });
  const shown = await page.locator(".values td").nth(2).textContent();
  return expect(shown, cosine(plain, titled).toFixed(3).replace("-", "−"), "similarity");
});

await check("a thousand pasted lines do not freeze Compare", order.open, async (page) => {
  await chooseModel(page, order.real);
  await page.waitForSelector(".panels li:nth-child(3)");
  const lines = Array.from({ length: 1000 }, (_, i) => `Line ${i} is about ${["bees", "bridges", "trains", "rain"][i % 4]}.`);
  const found = await withoutFreeze(page, "1,000 lines in Compare", async () => {
    await page.getByRole("button", { name: "Clear" }).click();
    await paste(page, "#view-compare .lines .text", lines.join("\n"));
    await page.waitForFunction(() => document.querySelector("#view-compare .card-head .hint")?.textContent === "1,000");
    await page.getByRole("button", { name: "Compare" }).click();
    await page.waitForFunction(() => document.querySelector("#view-compare .progress"));
    await page.waitForFunction(() => !document.querySelector("#view-compare .progress"), null, { timeout: 240_000 });
    await page.locator("#view-compare .matrix canvas").hover({ position: { x: 100, y: 100 } });
    await page.locator("#view-compare .matrix canvas").hover({ position: { x: 120, y: 120 } });
    await page.waitForSelector("#view-compare .readout b");
  });
  return [
    ...found,
    ...expect(await page.locator("#view-compare .lines li").count(), 20, "lines in the editor"),
    ...expect(await page.locator(".panel").count(), 3, "panels"),
  ];
});

await check("two thousand rows of a CSV file do not freeze Map", order.open, async (page) => {
  await chooseModel(page, order.real);
  await show(page, "map");
  const rows = Array.from({ length: 2000 }, (_, i) => `"Row ${i}, about ${["bees", "bridges"][i % 2]}",${["insect", "building"][i % 2]},${i}`);
  const content = ["text,kind,number", ...rows].join("\n");
  const found = await withoutFreeze(page, "2,000 rows in Map", async () => {
    const file = { name: "rows.csv", mimeType: "text/csv", buffer: Buffer.from(content) };
    await page.setInputFiles("#view-map input[type=file]", file);
    await page.waitForFunction(() => document.querySelector("#view-map .card-head .hint")?.textContent.startsWith("2,000, 3 columns"));
    await page.getByRole("button", { name: "Draw the map" }).click();
    await page.waitForFunction(() => document.querySelector("#view-map .progress"));
    await page.waitForFunction(() => !document.querySelector("#view-map .progress"), null, { timeout: 240_000 });
  });
  await page.getByLabel("Colour by").selectOption("kind");
  const names = await page.locator(".categories li").allTextContents();
  await page.getByLabel("Colour by").selectOption("number");
  const scale = await page.locator("#view-map .legend").textContent();
  await page.getByLabel("Lines that contain").fill("row 7,");
  await page.click("#view-map .result-line");
  await page.waitForSelector("#view-map h2:text('Nearest to line 8')");
  await page.waitForSelector("#view-map .result-line .score");
  return [
    ...expect(names, ["building", "insect"], "categories"),
    ...expect(scale, "01999", "scale"),
    ...found,
  ];
});

await check("search ranks by similarity, with and without the prompt", order.open, async (page) => {
  await chooseModel(page, order.real);
  await show(page, "search");
  const best = await page.textContent(".ranking li h3");
  await chooseModel(page, order.model);
  await page.waitForSelector(".ranking .change");
  const withPrompt = await page.locator(".ranking .score").allTextContents();
  await page.locator("#view-search").getByLabel("Task", { exact: true }).selectOption("");
  await page.waitForFunction(() => !document.querySelector(".ranking .change"));
  const plain = await page.locator(".ranking .score").allTextContents();
  const notes = "# Deep\n\n## Sea\nAnglerfish live in the deep sea.\n\n## Sky\nEagles circle in the sky.";
  await chooseModel(page, order.real);
  await page.setInputFiles("#view-search input[type=file]", { name: "animals.md", mimeType: "text/markdown", buffer: Buffer.from(notes) });
  await page.locator("#view-search").getByRole("textbox", { name: "Question" }).fill("Which fish lives far below the surface?");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelectorAll(".ranking li").length === 2);
  return [
    ...expect(best, "Coffee › Brewing", "best passage"),
    ...expect(withPrompt.length, plain.length, "passages"),
    ...expect(JSON.stringify(withPrompt) === JSON.stringify(plain), false, "the prompt changes nothing"),
    ...expect(await page.locator(".ranking h3").allTextContents(), ["Deep › Sea", "Deep › Sky"], "passages of the file"),
  ];
});

await check("inspect shows what the model reads", order.open, async (page) => {
  await chooseModel(page, order.model);
  await show(page, "inspect");
  const view = page.locator("#view-inspect");
  await view.getByLabel("Task", { exact: true }).selectOption("document");
  await view.getByLabel("Title").fill("Zoo");
  await view.getByLabel("Text", { exact: true }).fill("Two 🦆\nquack.");
  await page.waitForFunction(() => document.querySelector(".exact")?.textContent === "title: Zoo | text: Two 🦆\nquack.");
  const prompt = await page.textContent(".exact .prompt");
  const ofPrompt = await page.locator(".token.prompt .surface").allTextContents();
  const inner = await page.locator(".token:not(.special) .surface").allTextContents();
  const ids = await page.locator(".token .id").allTextContents();
  const answer = await fetch(`${order.open}/v1/tokenize`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: order.model, input: "Two 🦆\nquack.", task: "document", title: "Zoo" }),
  });
  const model = await (await fetch(`${order.open}/v1/models/${order.model}`)).json();
  const found = [
    ...expect(prompt, "title: Zoo | text: ", "prompt"),
    ...expect("title:·Zoo·|·text:·".startsWith(ofPrompt.join("")), true, `tokens of the prompt: ${ofPrompt}`),
    ...expect(
      inner.filter((token) => !token.startsWith("<0x")).join("").replaceAll("·", " ").replaceAll("↵", "\n"),
      "title: Zoo | text: Two 🦆\nquack.",
      "tokens",
    ),
    ...expect(ids.map(Number), (await answer.json()).data[0].ids, "ids"),
    ...expect(await page.textContent("#view-inspect .facts code"), model.fingerprint, "fingerprint"),
  ];
  await view.getByLabel("Text", { exact: true }).fill("word ".repeat(400));
  await page.waitForSelector(".limit.over");
  const cut = await page.locator(".token.cut").count();
  const note = await page.textContent("#view-inspect .results .note");
  const kept = await page.locator(".token:not(.cut)").count();
  found.push(...expect(cut > 100, true, "tokens that are cut"), ...expect(kept, model.max_tokens, "tokens that are read"));
  found.push(...expect(/The model would read characters 1 to \d+ of 2,0\d\d/.test(note), true, `note: ${note}`));
  return found;
});

await check("status loads and unloads models", order.open, async (page) => {
  await show(page, "status");
  const row = page.locator(".models tr", { hasText: order.spare });
  await row.getByRole("button", { name: "Unload" }).click();
  await row.locator(".state:text('unloaded')").waitFor();
  await row.getByRole("button", { name: "Load" }).click();
  await row.locator(".state:text-is('loaded')").waitFor();
  await post({ model: order.spare, input: "a b c" });
  await page.waitForFunction(() => !/0 MiB|–/.test(document.querySelector(".tiles").textContent.match(/Memory([^V]*)/)[1]));
  const charts = await page.locator(".chart canvas").count();
  return expect(charts, 4, "charts");
});

await check("status shows bulk jobs with their progress", order.open, async (page) => {
  // A job with a hostile id, which no server makes.
  const answer = (body) => (route) => route.fulfill({ json: body });
  const counts = { total: 200, completed: 50, failed: 10 };
  const job = { id: `batch_${HOSTILE}`, status: "in_progress", endpoint: "/v1/embeddings", created_at: 1, request_counts: counts };
  await page.route("**/v1/batches?*", answer({ data: [job, { ...job, id: "batch_2", status: "failed", request_counts: null }] }));
  await show(page, "status");
  await page.waitForSelector(".jobs li:nth-child(2)");
  const bar = page.locator(".jobs progress").first();
  return [
    ...expect([await bar.getAttribute("value"), await bar.getAttribute("max")], ["60", "200"], "progress"),
    ...expect(await page.locator(".jobs .hint").first().textContent(), "50 of 200, 10 failed", "counts"),
    ...expect(await page.locator(".jobs code").first().textContent(), job.id, "id"),
    ...(await inspectPage(page, "jobs")),
  ];
});

await check("status shows the batches of the server", order.open, async (page) => {
  const send = (path, body, headers) => fetch(`${order.open}/v1/${path}`, { method: "POST", body, headers }).then((sent) => sent.json());
  const start = async (lines) => {
    const form = new FormData();
    form.set("purpose", "batch");
    form.set("file", new Blob([lines.map((line) => JSON.stringify(line)).join("\n")]), "requests.jsonl");
    const { id } = await send("files", form);
    const body = { input_file_id: id, endpoint: "/v1/embeddings", completion_window: "24h" };
    return (await send("batches", JSON.stringify(body), { "content-type": "application/json" })).id;
  };
  const line = (model) => ({ custom_id: "a", method: "POST", url: "/v1/embeddings", body: { input: "a text", model } });
  const [right, wrong] = [await start([line(order.model)]), await start([line(HOSTILE)])];
  await show(page, "status");
  const job = (id) => page.locator(".jobs li", { hasText: id });
  await job(right).locator(".state:text-is('completed')").waitFor();
  await job(wrong).locator(".state:text-is('failed')").waitFor();
  const said = await job(wrong).locator(".reason").textContent();
  return [
    ...expect(await job(right).locator(".hint").textContent(), "1 of 1", "counts"),
    ...expect(said.startsWith("Line 1: The model '\"><img") && said.includes("does not exist"), true, `reason: ${said}`),
    ...(await inspectPage(page, "batches")),
  ];
});

await check("status says that a server keeps no batches", order.closed, async (page) => {
  await page.getByLabel("API key").fill(order.key);
  await page.getByLabel("API key").press("Enter");
  await show(page, "status");
  const hint = page.locator("section[aria-labelledby=status-jobs] .hint");
  await hint.waitFor();
  return expect(await hint.textContent(), "This server keeps no batches. It does with --batch-path DIRECTORY.", "hint");
});

await check("a key is asked for, and stays in memory", order.closed, async (page) => {
  await page.waitForSelector(".unreachable .error");
  const asked = await page.textContent(".unreachable .error");
  const field = page.getByLabel("API key");
  const found = expect(/API key/.test(asked), true, `error: ${asked}`);
  await field.fill("wrong");
  await field.press("Enter");
  await page.waitForFunction((old) => document.querySelector(".unreachable .error")?.textContent !== old, asked);
  await field.fill(order.key);
  await field.press("Enter");
  await page.waitForSelector(".panels li:nth-child(3)");
  await show(page, "status");
  await page.locator(".models").getByRole("button", { name: "Unload" }).first().click();
  const refused = await page.locator("#view-status .error").textContent();
  found.push(...expect(/is not an admin key/.test(refused), true, `error: ${refused}`));
  await field.fill(order.admin);
  await field.press("Enter");
  await page.locator(".models").getByRole("button", { name: "Unload" }).first().click();
  await page.locator(".models .state:text('unloaded')").first().waitFor();
  await page.locator(".models").getByRole("button", { name: "Load" }).first().click();
  await page.locator(".models .state:text-is('loaded')").first().waitFor();
  await page.click("nav a[href='#compare']");
  await page.click("#view-compare button:text('Copy as')");
  const program = await page.textContent("dialog pre");
  const stored = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, location.href, history.state]));
  for (const [where, text] of Object.entries({ storage: stored, program })) {
    for (const key of [order.key, order.admin]) found.push(...expect(text.includes(key), false, `key in the ${where}`));
  }
  await page.reload();
  await page.waitForSelector(".unreachable .error");
  return [...found, ...expect(await field.inputValue(), "", "key after a reload")];
});

await check("errors are sentences of the server", order.open, async (page) => {
  await chooseModel(page, order.model);
  await page.waitForSelector(".panels li:nth-child(4)");
  const errors = [];
  const read = async () => {
    await page.waitForSelector("#view-compare .error");
    errors.push(await page.textContent("#view-compare .error"));
  };
  await page.getByLabel("Title of line 3").fill("t".repeat(5000));
  await page.getByRole("button", { name: "Compare" }).click();
  await read();
  await page.getByRole("button", { name: "Clear" }).click();
  await page.getByRole("button", { name: "Compare" }).click();
  await page.waitForFunction((old) => document.querySelector("#view-compare .error")?.textContent !== old, errors[0]);
  await read();
  await paste(page, "#view-compare .lines .text", "line\n".repeat(1001));
  await page.getByRole("button", { name: "Compare" }).click();
  await page.waitForFunction((old) => document.querySelector("#view-compare .error")?.textContent !== old, errors[1]);
  await read();
  await page.route("**/v1/models", (route) => route.abort());
  await page.click("nav a[href='#status']");
  await page.waitForSelector(".unreachable .error");
  errors.push(await page.textContent(".unreachable .error"));
  const patterns = [/title.*4096/, /^Write at least two lines/, /at most 1000 lines, and there are 1,001/, /does not answer/];
  return patterns.flatMap((pattern, i) => expect(pattern.test(errors[i]) && /\.$/.test(errors[i].trim()), true, `error: ${errors[i]}`));
});

await check("nothing that a user types becomes HTML", order.open, async (page) => {
  for (const model of [order.model, order.real]) {
    await chooseModel(page, model);
    for (const view of VIEWS) {
      await show(page, view);
      const fields = page.locator(`#view-${view}`).locator("input:not([type=file], [type=radio], [type=checkbox]), textarea");
      for (let i = 0; i < (await fields.count()); i++) await fields.nth(i).fill(HOSTILE);
      for (const task of await page.locator(`#view-${view} select`).all()) {
        if ((await task.locator("option[value=document]").count()) > 0) await task.selectOption("document");
      }
      for (const field of await page.locator(`#view-${view} input[type=text]`).all()) await field.fill(HOSTILE);
    }
    await page.click("nav a[href='#compare']");
    await page.getByRole("button", { name: "Compare" }).click();
    await page.locator(".values th .words", { hasText: "onerror" }).first().waitFor({ state: "attached" });
    await page.getByRole("application").focus();
    await page.locator("#view-compare .readout q").first().waitFor();
    for (const language of ["curl", "Python", "JavaScript", "Rust"]) {
      await page.click("#view-compare button:text('Copy as')");
      await page.click(`#view-compare dialog button:text-is('${language}')`);
      await page.keyboard.press("Escape");
    }
    await page.click("nav a[href='#map']");
    const rows = Array.from({ length: 5 }, (_, i) => `"${HOSTILE.replaceAll('"', '""')} ${i}","${HOSTILE.replaceAll('"', '""')}"`);
    const csv = [`text,"${HOSTILE.replaceAll('"', '""')}"`, ...rows].join("\n");
    await page.setInputFiles("#view-map input[type=file]", { name: `${HOSTILE}.csv`, mimeType: "text/csv", buffer: Buffer.from(csv) });
    await page.getByRole("button", { name: "Draw the map" }).click();
    await page.locator("#view-map option", { hasText: "onerror" }).first().waitFor({ state: "attached" });
    await page.getByLabel("Colour by").selectOption(HOSTILE);
    await page.getByLabel("Lines that contain").fill("onerror");
    await page.locator("#view-map .result-line").first().click();
    await page.setInputFiles("#view-map input[type=file]", { name: `${HOSTILE}.bin`, mimeType: "text/plain", buffer: Buffer.from("\0") });
    await page.locator("#view-map .error", { hasText: "onerror" }).waitFor();
    await page.click("nav a[href='#search']");
    await page.setInputFiles("#view-search input[type=file]", [
      { name: `${HOSTILE}.md`, mimeType: "text/markdown", buffer: Buffer.from(`# ${HOSTILE}\n\n${HOSTILE}`) },
      { name: `${HOSTILE}.txt`, mimeType: "text/plain", buffer: Buffer.from(HOSTILE) },
    ]);
    await page.locator("#view-search").getByRole("textbox", { name: "Question" }).fill(HOSTILE);
    await page.keyboard.press("Enter");
    await page.locator(".ranking h3", { hasText: "onerror" }).first().waitFor();
    await page.click("nav a[href='#inspect']");
    await page.locator("#view-inspect .exact", { hasText: "onerror" }).waitFor();
  }
  await page.getByLabel("API key").fill(HOSTILE);
  await page.getByLabel("API key").press("Enter");
  await page.evaluate((hash) => (location.hash = hash), HOSTILE);
  await page.waitForTimeout(300);
  const made = await page.evaluate(() => ({
    hacked: window.hacked ?? null,
    images: document.querySelectorAll("img:not(.brand img)").length,
    scripts: document.querySelectorAll("script:not([src])").length,
    handlers: document.querySelectorAll("[onerror], [onload]").length,
  }));
  return expect(made, { hacked: null, images: 0, scripts: 0, handlers: 0 }, "elements");
});

await check("trusted types and the policy hold", order.open, async (page, messages) => {
  const blocked = await page.evaluate(async () => {
    const found = [];
    const tries = {
      innerHTML: () => (document.createElement("div").innerHTML = "<b>x</b>"),
      script: () => (document.createElement("script").src = "https://evil.example/x.js"),
    };
    for (const [name, act] of Object.entries(tries)) {
      try {
        act();
        found.push(name);
      } catch {
        // blocked, as it should be
      }
    }
    await fetch("https://evil.example/").then(
      () => found.push("fetch"),
      () => {},
    );
    return found;
  });
  messages.length = 0; // the console reports these attempts
  return expect(blocked, [], "not blocked");
});

await check("the keyboard reaches everything", order.open, async (page) => {
  await page.waitForSelector(".panels li:nth-child(3)");
  await page.keyboard.press("Tab");
  const found = expect(await page.evaluate(() => document.activeElement.textContent.trim()), "Skip to the content", "first");
  await page.keyboard.press("Enter");
  found.push(...expect(await page.evaluate(() => document.activeElement.id), "main", "after the link"));
  const seen = new Set();
  for (let i = 0; i < 80; i++) {
    await page.keyboard.press("Tab");
    seen.add(await page.evaluate(() => document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent.trim()));
  }
  for (const name of ["Text of line 1", "Remove line 6", "Add a line", "Compare", "Copy as…", "API description"]) {
    found.push(...expect(seen.has(name), true, name));
  }
  found.push(...expect([...seen].some((name) => name.startsWith("Heat map")), true, "heat map"));
  await page.getByRole("button", { name: "Copy as" }).first().focus();
  await page.keyboard.press("Enter");
  await page.waitForSelector("dialog[open]");
  await page.keyboard.press("Escape");
  await page.waitForSelector("dialog[open]", { state: "detached" }).catch(() => found.push("the dialog stays open"));
  await page.getByLabel("Text of line 6").focus();
  await page.keyboard.press("Enter");
  await page.keyboard.type("typed");
  return [...found, ...expect(await page.getByLabel("Text of line 7").inputValue(), "typed", "a new line")];
});

await check("the programs of Copy as run", order.open, async (page) => {
  const run = promisify(execFile);
  const environment = { ...process.env, EMBERGEM_API_KEY: "any" };
  const commands = {
    curl: ["bash", "-c"],
    Python: [order.python, "-c"],
    JavaScript: [process.execPath, "--input-type=module", "-e"],
    Rust: ["cargo", "run", "--quiet", "--manifest-path", join(order.crate, "Cargo.toml")],
  };
  const expectations = {
    compare: { Python: "(2, 96)\n(4, 96)\n", JavaScript: "2\n4\n", Rust: "2 vectors\n4 vectors\n" },
    search: { Python: "(1, 96)\n(8, 96)\n", JavaScript: "1\n8\n", Rust: "1 vectors\n8 vectors\n" },
    inspect: { JavaScript: "1\n", Rust: "1 vectors\n" },
  };
  const found = [];
  await chooseModel(page, order.model);
  await page.waitForSelector(".panels li:nth-child(4)");
  await page.getByLabel("Text of line 1").fill(`it's "quoted" \\ {x} $HOME \`id\` ${HOSTILE} 🦆`);
  await page.getByLabel("Title of line 3").fill(`a 'title' with "quotes" and \\`);
  await page.getByRole("button", { name: "Compare" }).click();
  await page.locator(".values th .words", { hasText: "quoted" }).first().waitFor({ state: "attached" });
  for (const [view, expected] of Object.entries(expectations)) {
    await show(page, view);
    await page.click(`#view-${view} button:text('Copy as')`);
    for (const [language, [program, ...options]] of Object.entries(commands)) {
      await page.click(`#view-${view} dialog button:text-is('${language}')`);
      const code = await page.textContent(`#view-${view} dialog pre`);
      if (language === "Rust") writeFileSync(join(order.crate, "src", "main.rs"), code);
      else options.push(code);
      const { stdout } = await run(program, options, { env: environment, timeout: 300_000 });
      if (expected[language]) found.push(...expect(stdout, expected[language], `${view} in ${language}`));
      else found.push(...expect(/"data": ?\[|'data': \[/.test(stdout), true, `${view} in ${language}: ${stdout.slice(0, 200)}`));
    }
    await page.keyboard.press("Escape");
  }
  return found;
});

await browser.close();
console.log(JSON.stringify(results));
