/** Search: passages of text and Markdown files, ranked by their similarity to a question. */

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { type Line, type Model } from "../api.ts";
import { QUESTION_EXAMPLE, SEARCH_EXAMPLE } from "../examples.ts";
import { cosinesTo, largest, type Matrix } from "../math.ts";
import { Bar, decimals, ErrorNote, Field, FileDrop, Progress, TaskMenu, useTask } from "../parts/basics.tsx";
import { CopyAs } from "../parts/copy.tsx";
import { type Passage, readPassages } from "../passages.ts";
import { takesTitle, taskNames, useServer } from "../server.ts";

const MOST_PASSAGES = 5000;
const RANKS = 10;

interface SourceFile {
  name: string;
  content: string;
}

interface Result {
  model: string;
  question: Line;
  passages: readonly Passage[];
  /** The passages as they were embedded. */
  lines: readonly Line[];
  /** Rows of passages, best first, and the score of each row. */
  ranked: number[];
  scores: Float32Array;
  /** Place of each passage for the question without a prompt, from 1; null if the question has none. */
  plain: Map<number, number> | null;
  truncated: number;
}

/** The vectors of passages, and what they were made from. */
interface Indexed {
  model: string;
  task: string;
  passages: readonly Passage[];
  lines: readonly Line[];
  vectors: Matrix;
  truncated: number;
}

/** The task of a menu that a user has not touched: the usual one, if the model has it. */
function taskOr(model: Model | null, chosen: string | null, usual: string): string {
  const wanted = chosen ?? usual;
  return model?.prompts?.[wanted] === undefined ? "" : wanted;
}

export function Search({ visible }: { visible: boolean }) {
  const { api, model } = useServer();
  const [files, setFiles] = useState<readonly SourceFile[]>(SEARCH_EXAMPLE);
  const [question, setQuestion] = useState(QUESTION_EXAMPLE);
  const [questionTask, setQuestionTask] = useState<string | null>(null);
  const [passageTask, setPassageTask] = useState<string | null>(null);
  const [result, setResult] = useState<Result | null>(null);
  const [progress, setProgress] = useState<[done: number, total: number]>([0, 0]);
  const [fileError, setFileError] = useState<Error | null>(null);
  const indexed = useRef<Indexed | null>(null);
  const task = useTask();
  const passages = useMemo(() => files.flatMap((file) => readPassages(file.name, file.content)), [files]);
  const asking = taskOr(model, questionTask, "query");
  const reading = taskOr(model, passageTask, "document");

  const index = async (signal: AbortSignal, id: string): Promise<Indexed> => {
    const known = indexed.current;
    if (known && known.model === id && known.task === reading && known.passages === passages) return known;
    setProgress([0, passages.length]);
    const titled = takesTitle(model, reading);
    const lines = passages.map(({ text, title }) => ({ text, task: reading, title: titled ? title.slice(0, 4096) : "" }));
    const { vectors, truncated } = await api.embed(id, lines, {
      signal,
      progress: (done) => setProgress([done, passages.length]),
    });
    return (indexed.current = { model: id, task: reading, passages, lines, vectors, truncated });
  };

  const search = () =>
    task.run(async (signal) => {
      if (!model) throw new Error("There is no model yet. Load one in the view Status.");
      if (passages.length === 0) throw new Error("There is nothing to search. Drop a text or Markdown file.");
      if (passages.length > MOST_PASSAGES) {
        const limits = [MOST_PASSAGES, passages.length].map((number) => number.toLocaleString("en"));
        throw new Error(`The page searches at most ${limits[0]} passages, and the files have ${limits[1]}. Remove a file.`);
      }
      if (question.trim() === "") throw new Error("Write a question.");
      const { lines: embedded, vectors, truncated } = await index(signal, model.id);
      const asked: Line = { text: question, task: asking, title: "" };
      const lines = asking === "" ? [asked] : [asked, { ...asked, task: "" }];
      const found = await api.embed(model.id, lines, { signal });
      if (signal.aborted) return;
      const { data, size } = found.vectors;
      const scores = cosinesTo(vectors, data.subarray(0, size));
      const plain = asking === "" ? null : ranks(cosinesTo(vectors, data.subarray(size)));
      const ranked = largest(scores, RANKS);
      setResult({ model: model.id, question: asked, passages, lines: embedded, ranked, scores, plain, truncated });
    });

  const ready = model?.status === "loaded";
  useEffect(() => {
    if (visible && ready && (files === SEARCH_EXAMPLE || result)) search();
  }, [visible, model?.id, ready, asking, reading]);

  const take = async (dropped: File[]) => {
    const added: SourceFile[] = [];
    for (const file of dropped) {
      const content = await file.text();
      if (content.includes("\0")) {
        setFileError(new Error(`The file ${file.name} is not text. Drop text or Markdown files.`));
        return;
      }
      added.push({ name: file.name, content });
    }
    setFileError(null);
    const names = new Set(added.map((file) => file.name));
    setFiles((before) => [...(before === SEARCH_EXAMPLE ? [] : before.filter((file) => !names.has(file.name))), ...added]);
  };

  return (
    <div class="columns">
      <section class="card" aria-labelledby="search-files">
        <div class="card-head">
          <h2 id="search-files">Files</h2>
          <span class="hint">{passages.length.toLocaleString("en")} passages</span>
        </div>
        <FileDrop accept=".txt,.md,.markdown,.mdx,text/*" label="Choose files" multiple onFiles={(dropped) => void take(dropped)}>
          <ul class="files">
            {files.map((file) => (
              <li key={file.name}>
                <span class="words">{file.name}</span>
                <span class="hint">{file.content.length.toLocaleString("en")} characters</span>
                <button
                  type="button"
                  class="quiet remove"
                  aria-label={`Remove ${file.name}`}
                  title="Remove this file"
                  onClick={() => setFiles(files.filter((other) => other !== file))}
                >
                  ×
                </button>
              </li>
            ))}
            {files.length === 0 && <li class="hint">No files yet.</li>}
          </ul>
        </FileDrop>
        <ErrorNote error={fileError} />
        {taskNames(model).length > 0 && (
          <Field label="Task of the passages" hint="A model with prompts expects texts to search with the task document.">
            {(id) => <TaskMenu id={id} value={reading} onChange={setPassageTask} />}
          </Field>
        )}
      </section>
      <section class="results" aria-label="Search">
        <form
          class="card"
          onSubmit={(event) => {
            event.preventDefault();
            search();
          }}
        >
          <div class="ask">
            <Field label="Question">
              {(id) => <input id={id} type="text" value={question} onInput={(event) => setQuestion(event.currentTarget.value)} />}
            </Field>
            {taskNames(model).length > 0 && (
              <Field label="Task">{(id) => <TaskMenu id={id} value={asking} onChange={setQuestionTask} />}</Field>
            )}
            <button type="submit" class="primary">
              Search
            </button>
          </div>
          <ErrorNote error={task.error} />
        </form>
        {task.running && progress[0] < progress[1] && (
          <Progress text={`Embedding ${progress[0]} of ${progress[1]} passages`} done={progress[0]} total={progress[1]} onStop={task.stop} />
        )}
        {result && <Ranking result={result} />}
      </section>
    </div>
  );
}

/** Return the place of each row, from 1. */
function ranks(scores: Float32Array): Map<number, number> {
  return new Map(largest(scores, scores.length).map((row, place) => [row, place + 1]));
}

function Ranking({ result }: { result: Result }) {
  const { question, passages, lines, ranked, scores, plain, truncated } = result;
  return (
    <div class="card">
      <div class="card-head">
        <h2>Passages</h2>
        <span class="hint">
          {ranked.length} of {passages.length.toLocaleString("en")}
        </span>
        <CopyAs
          shown={() => ({
            operation: "embeddings",
            model: result.model,
            lines: [question, ...ranked.map((row) => lines[row]!)],
            truncate: truncated > 0,
          })}
        />
      </div>
      {plain && (
        <p class="hint">
          The question has the prompt of the task {question.task.replaceAll("_", " ")}. Each passage shows the place that it
          has without this prompt.
        </p>
      )}
      {truncated > 0 && (
        <p class="note">
          {truncated === 1 ? "One passage was" : `${truncated} passages were`} longer than the model reads, and cut.
        </p>
      )}
      <ol class="ranking">
        {ranked.map((row, place) => (
          <li key={`${passages[row]!.file}:${row}`}>
            <span class="rank" aria-hidden="true">
              {place + 1}
            </span>
            <div class="passage">
              <div class="passage-head">
                <div class="passage-name">
                  <h3>{passages[row]!.title}</h3>
                  <span class="hint">{passages[row]!.title === passages[row]!.file ? "" : passages[row]!.file}</span>
                  {plain && <Change now={place + 1} plain={plain.get(row)!} />}
                </div>
                <span class="score">{decimals(scores[row]!, 3)}</span>
              </div>
              <Bar value={scores[row]!} />
              <p class="passage-text">{passages[row]!.text}</p>
            </div>
          </li>
        ))}
      </ol>
    </div>
  );
}

/** How the place of a passage changes without the prompt. */
function Change({ now, plain }: { now: number; plain: number }) {
  if (now === plain) return <span class="change">plain: same place</span>;
  return <span class={now < plain ? "change better" : "change worse"}>plain: place {plain}</span>;
}
