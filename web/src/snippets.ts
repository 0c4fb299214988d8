/** "Copy as": the requests on the screen as curl, Python, JavaScript and Rust. */

import type { Form } from "./encodings.ts";
import type { Line } from "./api.ts";

/** What is on the screen: texts to embed, or a text to tokenize. */
export interface Shown {
  operation: "embeddings" | "tokenize";
  model: string;
  lines: readonly Line[];
  form?: Form | undefined;
  /** Whether texts were cut to the limit of the model; without the option a request with them is refused. */
  truncate?: boolean;
}

export const LANGUAGES = ["curl", "Python", "JavaScript", "Rust"] as const;
export type Language = (typeof LANGUAGES)[number];

/** Texts in a snippet; a longer list is cut, and a comment says so. */
const MOST = 50;

interface Group {
  task: string;
  texts: string[];
  titles: string[] | null;
}

/** Return the program in one language. The key is read from the environment and is never written into it. */
export function snippet(language: Language, shown: Shown, server: string, withKey: boolean): string {
  const groups = byTask(shown.lines.slice(0, MOST));
  const cut = shown.lines.length > MOST ? `the first ${MOST} of ${shown.lines.length} texts` : "";
  const write = { curl, Python: python, JavaScript: javascript, Rust: rust }[language];
  return write(shown, groups, server.replace(/\/$/, ""), withKey, cut);
}

/** The lines of each task, in order. */
function byTask(lines: readonly Line[]): Group[] {
  const found = new Map<string, Line[]>();
  for (const line of lines) found.set(line.task, [...(found.get(line.task) ?? []), line]);
  return [...found].map(([task, group]) => ({
    task,
    texts: group.map((line) => line.text),
    titles: group.some((line) => line.title) ? group.map((line) => line.title) : null,
  }));
}

function body({ operation, model, form, truncate }: Shown, { task, texts, titles }: Group): Record<string, unknown> {
  return {
    model,
    input: texts,
    ...(task ? { task } : {}),
    ...(titles ? { title: titles } : {}),
    ...(form ? { dimensions: form.dimensions } : {}),
    ...(form && form.dtype !== "float32" ? { encoding_dtype: form.dtype } : {}),
    ...(truncate ? { truncate_sequence: true } : {}),
    ...(operation === "tokenize" ? { return_tokens: true } : {}),
  };
}

function curl(shown: Shown, groups: Group[], server: string, withKey: boolean, cut: string): string {
  const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;
  const commands = groups.map((group) => {
    const parts = [`curl ${quoted(`${server}/v1/${shown.operation}`)}`, '-H "Content-Type: application/json"'];
    if (withKey) parts.push('-H "Authorization: Bearer $EMBERGEM_API_KEY"');
    parts.push(`-d ${quoted(JSON.stringify(body(shown, group), null, 2))}`);
    return parts.join(" \\\n  ");
  });
  return (cut ? `# ${cut}\n` : "") + commands.join("\n");
}

function python(shown: Shown, groups: Group[], server: string, _withKey: boolean, cut: string): string {
  const note = cut ? `  # ${cut}` : "";
  if (shown.operation === "tokenize") {
    const calls = groups.map((group) => `body = ${pythonValue(body(shown, group))}${note}
print(http.post("/v1/tokenize", json=body).raise_for_status().json())`);
    return `import os

import httpx  # pip install httpx

headers = {"Authorization": f"Bearer {os.environ.get('EMBERGEM_API_KEY', 'any')}"}
with httpx.Client(base_url=${JSON.stringify(server)}, headers=headers) as http:
    ${calls.join("\n").replaceAll("\n", "\n    ")}
`;
  }
  const { form, truncate } = shown;
  const calls = groups.map(({ task, texts, titles }) => {
    const options = [
      task ? `task=${JSON.stringify(task)}` : "",
      titles ? `title=${pythonValue(titles.map((title) => title || null))}` : "",
      form ? `dimensions=${form.dimensions}` : "",
      form && form.dtype !== "float32" ? `output=${JSON.stringify(form.dtype)}` : "",
      truncate ? "truncate=True" : "",
    ].filter(Boolean);
    return `    texts = ${listed(texts.map(pythonValue), "    ")}${note}
    vectors = client.embed(${["texts", ...options].join(", ")})
    print(vectors.shape)`;
  });
  return `from embergem import Client  # pip install 'embergem[client]'

# The client sends the API key in the variable EMBERGEM_API_KEY.
with Client(${JSON.stringify(server)}, model=${JSON.stringify(shown.model)}) as client:
${calls.join("\n")}
`;
}

/** Return a list with one element a line, except for a single one, which stays on the line. */
function listed(elements: readonly string[], indentation: string): string {
  if (elements.length < 2) return `[${elements.join("")}]`;
  return `[\n${elements.map((element) => `${indentation}    ${element},\n`).join("")}${indentation}]`;
}

/** Return a value as Python writes it: JSON, with None and True. */
function pythonValue(value: unknown): string {
  if (value === null || value === undefined) return "None";
  if (value === true) return "True";
  if (Array.isArray(value)) return `[${value.map(pythonValue).join(", ")}]`;
  if (typeof value === "object") {
    const pairs = Object.entries(value).map(([name, entry]) => `${JSON.stringify(name)}: ${pythonValue(entry)}`);
    return `{${pairs.join(", ")}}`;
  }
  return JSON.stringify(value);
}

function javascript(shown: Shown, groups: Group[], server: string, withKey: boolean, cut: string): string {
  const key = withKey ? '\n  authorization: `Bearer ${process.env.EMBERGEM_API_KEY}`,' : "";
  const bodies = groups.map((group) => `  ${JSON.stringify(body(shown, group), null, 2).replaceAll("\n", "\n  ")},`);
  return `const headers = {
  "content-type": "application/json",${key}
};${cut ? `\n// ${cut}` : ""}
const requests = [
${bodies.join("\n")}
];
for (const request of requests) {
  const response = await fetch(${JSON.stringify(`${server}/v1/${shown.operation}`)}, {
    method: "POST",
    headers,
    body: JSON.stringify(request),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error.message);
  console.log(answer.data.length);
}
`;
}

function rust(shown: Shown, groups: Group[], server: string, _withKey: boolean, cut: string): string {
  const calls = groups.map(({ task, texts, titles }) => {
    const steps = titles
      ? texts.map((text, index) => `.add_document(${rustText(titles[index]!)}, ${rustText(text)})`)
      : [`.add_prompts(${listed(texts.map(rustText), "        ")})`];
    if (task) steps.push(`.with_task(${rustText(task)})`);
    if (shown.form) steps.push(`.with_dimensions(${shown.form.dimensions})`);
    if (shown.truncate) steps.push(".with_truncate_sequence(true)");
    return `    let request = EmbeddingRequest::builder()
        ${steps.join("\n        ")};
    println!("{} vectors", model.embed_with_model(request, Some(${rustText(shown.model)})).await?.len());`;
  });
  const notes = [
    "cargo add embergem --path PATH_OF_YOUR_CLONE/crates/embergem",
    "cargo add tokio --features macros,rt-multi-thread",
    "The client sends the API key in the variable EMBERGEM_API_KEY.",
    shown.form && shown.form.dtype !== "float32" ? "The Rust client returns float32 vectors." : "",
    shown.operation === "tokenize" ? "The Rust client has no tokenize operation; this embeds the text." : "",
    cut,
  ].filter(Boolean);
  return `${notes.map((note) => `// ${note}`).join("\n")}
use embergem::{EmbeddingModel, EmbeddingRequest, Result};

#[tokio::main]
async fn main() -> Result<()> {
    let model = EmbeddingModel::connect(${rustText(server)}).await?;
${calls.join("\n")}
    Ok(())
}
`;
}

/** Return a string literal of Rust. */
function rustText(text: string): string {
  const escaped = text.replace(/[\\"]/g, "\\$&").replace(/[\u0000-\u001f\u007f]/g, (character) => {
    const known = { "\n": "\\n", "\r": "\\r", "\t": "\\t" }[character];
    return known ?? `\\u{${character.codePointAt(0)!.toString(16)}}`;
  });
  return `"${escaped}"`;
}
