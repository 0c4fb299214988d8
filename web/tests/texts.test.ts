/** Reading lines, CSV and files; encodings; rates. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { requests } from "../src/api.ts";
import { decodeVector, forms, pack } from "../src/encodings.ts";
import { PASSAGE, readPassages } from "../src/passages.ts";
import { quantile, rates } from "../src/rates.ts";
import { looksLikeCsv, readLines, readTable, shades } from "../src/tables.ts";

const base64 = (bytes: number[]) => Buffer.from(Uint8Array.from(bytes)).toString("base64");

test("lines of every system, without blank ones", () => {
  assert.deepEqual(readLines("a\r\nb\n\n  \nc\rd"), ["a", "b", "c", "d"]);
});

test("CSV is told from lines", () => {
  assert.ok(looksLikeCsv("text,topic\na,b\n\"c, d\",e"));
  assert.ok(looksLikeCsv("text\ttopic\na\tb"));
  assert.ok(!looksLikeCsv("Hello, you.\nNo comma here.\nOne, two, three."));
  assert.ok(!looksLikeCsv("one line, with a comma"));
});

test("CSV with quotes, and rows without text left out", () => {
  const table = readTable('id,text,topic\n1,"a ""b"", c",x\n2,,y\n3,"two\nlines",z\n', true);
  assert.equal(table.textColumn, "text");
  assert.deepEqual(table.texts, ['a "b", c', "two\nlines"]);
  assert.deepEqual(table.columns.get("topic"), ["x", "z"]);
  assert.deepEqual(table.textColumns, ["id", "text", "topic"]);
  assert.deepEqual(readTable("id,text\n1,a\n2,b", true, "id").texts, ["1", "2"]);
});

test("the text is the column with the longest values, and names are made unique", () => {
  const table = readTable("a,a,\nx,a longer sentence,y\n", true);
  assert.deepEqual(table.textColumns, ["a", "a′", "column 3"]);
  assert.equal(table.textColumn, "a′");
});

test("names of columns that JavaScript objects have", () => {
  const table = readTable("text,__proto__,constructor\na,b,c\n", true);
  assert.deepEqual(table.columns.get("__proto__"), ["b"]);
  assert.deepEqual(table.columns.get("constructor"), ["c"]);
});

test("few values are categories, and many numbers a scale", () => {
  assert.deepEqual(shades(["b", "a", "b"], 4), { kind: "categories", names: ["b", "a"], of: [0, 1, 0] });
  assert.deepEqual(shades(["1", "2", "3"], 2), { kind: "scale", least: 1, most: 3, of: [0, 0.5, 1] });
  assert.deepEqual(shades(["a", "b", "c", "a"], 2), { kind: "categories", names: ["a", "other"], of: [0, 1, 1, 0] });
});

test("Markdown is divided at headings, and code stays whole", () => {
  const found = readPassages("x.md", "# One\nintro\n\n## Two\n```\n# no heading\n\nstill code\n```\n\n## Three ##\nlast");
  assert.deepEqual(
    found.map(({ title, text }) => [title, text]),
    [
      ["One", "intro"],
      ["One › Two", "```\n# no heading\n\nstill code\n```"],
      ["One › Three", "last"],
    ],
  );
});

test("text files have no headings, and short paragraphs are joined", () => {
  const found = readPassages("x.txt", "# a\n\nb\n\n\n\nc");
  assert.deepEqual(found, [{ text: "# a\n\nb\n\nc", title: "x.txt", file: "x.txt" }]);
  assert.deepEqual(readPassages("x.txt", " \n\n"), []);
});

test("long paragraphs are divided between sentences, and nothing is lost", () => {
  const text = Array.from({ length: 90 }, (_, i) => `Sentence number ${i} is here.`).join(" ");
  const found = readPassages("x.txt", text);
  assert.ok(found.length > 2);
  assert.ok(found.every((passage) => passage.text.length <= PASSAGE && passage.text.endsWith(".")));
  assert.equal(found.map((passage) => passage.text).join(" "), text);
  const words = "word ".repeat(1000).trim();
  assert.equal(readPassages("x.txt", words).map((passage) => passage.text).join(" "), words);
});

test("vectors of each type", () => {
  const float = new Uint8Array(new Float32Array([0.5, -2]).buffer);
  assert.deepEqual([...decodeVector(base64([...float]), "float32")], [0.5, -2]);
  assert.deepEqual([...decodeVector(base64([127, 129]), "int8")], [127, -127]);
  assert.deepEqual([...decodeVector(base64([0b10100000]), "binary")], [1, -1, 1, -1, -1, -1, -1, -1]);
  assert.deepEqual(pack([Float32Array.of(1, 2), Float32Array.of(3, 4)]), { data: Float32Array.of(1, 2, 3, 4), rows: 2, size: 2 });
});

test("only sizes that the model was trained for", () => {
  const names = (full: number, allowed: number[]) => forms(full, allowed).map((form) => `${form.dimensions} ${form.dtype}`);
  assert.deepEqual(names(768, [768, 512, 256, 128]), ["768 float32", "512 float32", "256 float32", "128 float32", "768 int8", "768 binary"]);
  assert.deepEqual(names(384, [384]), ["384 float32", "384 int8", "384 binary"]);
  assert.deepEqual(names(100, [100]), ["100 float32", "100 int8"]);
});

test("a request has one task and a bounded number of inputs", () => {
  const line = (task: string, title = "") => ({ text: "x", task, title });
  assert.deepEqual(requests([line("query"), line(""), line("query"), line("query", "t")]), [[0, 2], [1], [3]]);
  assert.deepEqual(requests(Array.from({ length: 300 }, () => line(""))).map((one) => one.length), [128, 128, 44]);
});

test("quantiles of a histogram", () => {
  assert.equal(quantile([1, 2], [0, 0, 0], 0.5), null);
  assert.equal(quantile([1, 2], [0, 4, 0], 0.5), 1.5);
  assert.equal(quantile([1, 2], [2, 2, 0], 0.5), 1);
  assert.equal(quantile([1, 2], [0, 0, 3], 0.95), 2);
});

test("rates between two answers", () => {
  const model = { id: "m", requests: 0, inputs: 0, cache_hits: 0, cache_misses: 0, queue_tokens: 0, errors: 0, weight_bytes: 0 };
  const stats = (uptime: number, count: number, tokens: number, batches: number) => ({
    uptime, in_flight: 1, connections: 1, memory_bytes: 1, queued_bytes: 0, cache_bytes: 0,
    latency: { bounds: [1], counts: [count, 0], seconds: 0 },
    models: [{ ...model, tokens, batch_tokens: tokens, batches, batch_limit: 100 }],
  });
  const found = rates(stats(10, 5, 100, 2), stats(12, 9, 250, 5))!;
  assert.deepEqual([found.requests, found.tokens, found.batchFill], [2, 75, 0.5]);
  assert.equal(rates(stats(12, 9, 250, 5), stats(1, 0, 0, 0)), null);
});
