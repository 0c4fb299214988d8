/** "Copy as": each text arrives in the program as it is, whatever its characters. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { snippet, type Shown } from "../src/snippets.ts";

const TEXTS = ["it's", 'a "quote"', "back\\slash", "$HOME `id` !x", "two\nlines\ttab", "<script>", "Ünïcödé 🦆", "\u0007"];
const SHOWN: Shown = { operation: "embeddings", model: "default", lines: TEXTS.map((text) => ({ text, task: "", title: "" })) };

test("a shell passes the body of curl on unchanged", () => {
  const command = snippet("curl", SHOWN, "http://localhost:1234/", false).replace(/^curl /, "printf '%s\\n' ");
  const printed = execFileSync("bash", ["-c", command], { encoding: "utf8" });
  assert.deepEqual(JSON.parse(printed.slice(printed.indexOf("{"))), { model: "default", input: TEXTS });
});

test("JavaScript and Python read the same texts", () => {
  const javascript = snippet("JavaScript", SHOWN, "http://localhost:1234", false);
  const [, requests] = /const requests = (\[.*?\n\]);/s.exec(javascript)!;
  assert.deepEqual((0, eval)(requests!)[0].input, TEXTS);
  const [, texts] = /texts = (\[.*\n {4}\])/s.exec(snippet("Python", SHOWN, "http://localhost:1234", false))!;
  const printed = execFileSync("python3", ["-c", `import json; print(json.dumps(${texts}))`], { encoding: "utf8" });
  assert.deepEqual(JSON.parse(printed), TEXTS);
});

test("Rust literals escape what Rust reads otherwise", () => {
  const code = snippet("Rust", SHOWN, "http://localhost:1234", false);
  for (const literal of ['"a \\"quote\\""', '"back\\\\slash"', '"two\\nlines\\ttab"', '"\\u{7}"', '"Ünïcödé 🦆"']) {
    assert.ok(code.includes(literal), literal);
  }
});

test("tasks, titles and forms are in every language", () => {
  const shown: Shown = {
    operation: "embeddings",
    model: "m",
    lines: [
      { text: "q", task: "query", title: "" },
      { text: "d", task: "document", title: "T" },
    ],
    form: { dimensions: 256, dtype: "int8" },
    truncate: true,
  };
  for (const language of ["curl", "Python", "JavaScript", "Rust"] as const) {
    const code = snippet(language, shown, "http://localhost:1234", true);
    for (const part of ["query", "document", '"T"', "256", "truncate"]) assert.ok(code.includes(part), `${language}: ${part}`);
    assert.ok(!code.includes("undefined"), language);
    assert.ok(code.includes("EMBERGEM_API_KEY"), language);
  }
});

test("a long list is cut, and the program says so", () => {
  const lines = Array.from({ length: 60 }, (_, i) => ({ text: `t${i}`, task: "", title: "" }));
  for (const language of ["curl", "Python", "JavaScript", "Rust"] as const) {
    const code = snippet(language, { ...SHOWN, lines }, "http://localhost:1234", false);
    assert.ok(code.includes("the first 50 of 60 texts"), language);
    assert.ok(!code.includes("t50"), language);
  }
});
