/** Inspect: the tokens of a text, the exact string after the prompt, the limit, and the vector space. */

import { useEffect, useState } from "preact/hooks";
import type { Line, Token, Tokenized } from "../api.ts";
import { ErrorNote, Field, TaskMenu, useTask } from "../parts/basics.tsx";
import { CopyAs } from "../parts/copy.tsx";
import { takesTitle, taskNames, useServer } from "../server.ts";

/** Milliseconds without typing before the text is sent. */
const PAUSE = 250;
/** Tokens at the beginning, on each side of the cut, and at the end that are shown of a long text. */
const SHOWN_TOKENS = 600;
const AROUND_CUT = 60;
const LAST_TOKENS = 2;

const EXAMPLE = "Graphene is a single layer of carbon atoms, arranged in a honeycomb.";

export function Inspect({ visible }: { visible: boolean }) {
  const { api, model } = useServer();
  const [line, setLine] = useState<Line>({ text: EXAMPLE, task: "", title: "" });
  const [result, setResult] = useState<(Tokenized & { line: Line }) | null>(null);
  const { run, error } = useTask();
  const task = model?.prompts?.[line.task] === undefined ? "" : line.task;
  const title = takesTitle(model, task) ? line.title : "";

  useEffect(() => {
    if (!visible || model?.status !== "loaded") return;
    const timer = setTimeout(() => {
      const sent = { text: line.text, task, title };
      run(async (signal) => {
        const found = await api.tokenize(model.id, sent, signal);
        if (!signal.aborted) setResult({ ...found, line: sent });
      });
    }, PAUSE);
    return () => clearTimeout(timer);
  }, [visible, model?.id, model?.status, line.text, task, title]);

  return (
    <div class="columns">
      <section class="card" aria-labelledby="inspect-text">
        <div class="card-head">
          <h2 id="inspect-text">Input</h2>
        </div>
        <Field label="Text">
          {(id) => (
            <textarea id={id} rows={7} value={line.text} onInput={(event) => setLine({ ...line, text: event.currentTarget.value })} />
          )}
        </Field>
        {taskNames(model).length > 0 && (
          <Field label="Task" hint="The task chooses the prompt that is put around the text.">
            {(id) => <TaskMenu id={id} value={task} onChange={(chosen) => setLine({ ...line, task: chosen })} />}
          </Field>
        )}
        {takesTitle(model, task) && (
          <Field label="Title">
            {(id) => <input id={id} type="text" value={line.title} onInput={(event) => setLine({ ...line, title: event.currentTarget.value })} />}
          </Field>
        )}
        <ErrorNote error={error} />
        {model && <Facts />}
      </section>
      <section class="results" aria-label="What the model reads">
        {result && !error && <Reading result={result} />}
      </section>
    </div>
  );
}

/** What is true of the model, whatever the text. */
function Facts() {
  const { model } = useServer();
  if (!model?.fingerprint) return null;
  return (
    <>
      <h3>Vector space</h3>
      <dl class="facts">
        <dt>Fingerprint</dt>
        <dd>
          <code class="breaks">{model.fingerprint}</code>
        </dd>
        <dt>Dimensions</dt>
        <dd>{sizes(model.allowed_dimensions ?? [])}</dd>
        <dt>Arithmetic</dt>
        <dd>{model.dtype}</dd>
        <dt>Limit</dt>
        <dd>{model.max_tokens?.toLocaleString("en")} tokens</dd>
      </dl>
      <p class="hint">Vectors with different fingerprints can't be compared.</p>
    </>
  );
}

function sizes(allowed: readonly number[]): string {
  return allowed.length > 8 ? `${allowed.at(-1)} to ${allowed[0]}` : allowed.join(", ");
}

function Reading({ result }: { result: Tokenized & { line: Line } }) {
  const { model } = useServer();
  const { tokens, count, max_tokens: limit } = result;
  const characters = Array.from(result.text);
  const head = characters.length - Array.from(result.line.text).length;
  const kept = tokens.filter((token) => token.kept && token.end !== null);
  // Without a cut the model read the whole text; some tokenizers give white space at the ends no token.
  const [from, to] = !result.truncated
    ? [0, characters.length]
    : kept.length > 0
      ? [kept[0]!.start!, kept.at(-1)!.end!]
      : [0, 0];
  const share = Math.min(1, count / limit);
  return (
    <>
      <div class="card">
        <div class="card-head">
          <h2>Length</h2>
          <CopyAs shown={() => ({ operation: "tokenize", model: model?.id ?? "default", lines: [result.line] })} />
        </div>
        <p class="big">
          <b>{count.toLocaleString("en")}</b> of {limit.toLocaleString("en")} tokens
        </p>
        <div class={result.truncated ? "limit over" : "limit"} role="img" aria-label={`${Math.round((count / limit) * 100)} percent of the limit`}>
          <span style={{ width: `${share * 100}%` }} />
        </div>
        {result.truncated ? (
          <p class="note">
            The text is {(count - limit).toLocaleString("en")} tokens over the limit. The model would read characters{" "}
            {(from + 1).toLocaleString("en")} to {to.toLocaleString("en")} of {characters.length.toLocaleString("en")} (prompt
            included); a request without <code>truncate_sequence</code> is refused.
          </p>
        ) : (
          <p class="hint">
            {characters.length.toLocaleString("en")} characters with the prompt. Nothing is cut.
          </p>
        )}
      </div>
      <div class="card">
        <div class="card-head">
          <h2>Exact string</h2>
          {head > 0 && <span class="key prompt-key">prompt</span>}
          {result.truncated && <span class="key cut-key">not read</span>}
        </div>
        <pre class="exact" tabIndex={0} aria-label="Exact string after the prompt">
          <Pieces characters={characters} head={head} from={from} to={to} />
        </pre>
      </div>
      <div class="card">
        <div class="card-head">
          <h2>Tokens</h2>
          <span class="key special-key">special</span>
          {result.truncated && <span class="key cut-key">not read</span>}
        </div>
        <Tokens tokens={tokens} characters={characters} head={head} />
      </div>
    </>
  );
}

/** The exact string in parts: prompt, text, and what the model does not read. */
function Pieces({ characters, head, from, to }: { characters: readonly string[]; head: number; from: number; to: number }) {
  const ends = [...new Set([0, head, from, to, characters.length])].sort((a, b) => a - b);
  const pieces = ends.slice(1).map((end, index) => ({ start: ends[index]!, end }));
  return (
    <>
      {pieces.map(({ start, end }) => {
        const read = start >= from && end <= to;
        return (
          <span key={start} class={`${start < head ? "prompt" : ""} ${read ? "" : "cut"}`}>
            {characters.slice(start, end).join("")}
          </span>
        );
      })}
    </>
  );
}

function Tokens({ tokens, characters, head }: { tokens: readonly Token[]; characters: readonly string[]; head: number }) {
  const cut = tokens.findIndex((token) => !token.kept);
  const ranges: [number, number][] = [[0, SHOWN_TOKENS]];
  if (cut > SHOWN_TOKENS) ranges.push([cut - AROUND_CUT, cut + AROUND_CUT]);
  ranges.push([tokens.length - LAST_TOKENS, tokens.length]);
  let last = 0;
  return (
    <ol class="tokens">
      {ranges.map(([from, to]) => {
        const [start, end] = [Math.max(from, last), Math.min(to, tokens.length)];
        const gap = start - last;
        last = Math.max(last, end);
        return [
          gap > 0 && <Gap key={`gap ${start}`} count={gap} />,
          ...tokens.slice(start, end).map((token, offset) => (
            <Chip key={start + offset} token={token} before={tokens[start + offset - 1]} characters={characters} head={head} />
          )),
        ];
      })}
    </ol>
  );
}

function Gap({ count }: { count: number }) {
  return <li class="gap">… {count.toLocaleString("en")} more …</li>;
}

function Chip(props: { token: Token; before: Token | undefined; characters: readonly string[]; head: number }) {
  const { token, before, characters, head } = props;
  // A character outside of the vocabulary may be several tokens, one a byte. Only the first shows the character.
  const part = before?.start === token.start && before.end === token.end;
  const surface = token.start === null || token.end === null || part ? "" : characters.slice(token.start, token.end).join("");
  const kind = token.end === null ? "special" : token.end <= head ? "prompt" : "";
  const place = token.start === null ? "special token" : `characters ${token.start + 1} to ${token.end}`;
  return (
    <li class={`token ${kind} ${token.kept ? "" : "cut"}`} title={`${token.token}: ${place}`}>
      <span class="surface">{visible(surface) || token.token}</span>
      <span class="id">{token.id}</span>
    </li>
  );
}

/** Make white space visible. */
function visible(text: string): string {
  return text.replaceAll(" ", "·").replaceAll("\n", "↵").replaceAll("\t", "→").replaceAll("\r", "␍");
}
