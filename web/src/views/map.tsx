/** Map: thousands of lines in two dimensions, coloured by cluster or by a column. */

import { useEffect, useMemo, useState } from "preact/hooks";
import { category, css, MOST_CATEGORIES, shade, useTheme } from "../colours.ts";
import { compute } from "../compute.ts";
import { MAP_EXAMPLE } from "../examples.ts";
import type { Matrix } from "../math.ts";
import { Bar, decimals, ErrorNote, Field, FileDrop, Progress, TaskMenu, useTask, useWidth } from "../parts/basics.tsx";
import { CopyAs } from "../parts/copy.tsx";
import { Scatter } from "../parts/scatter.tsx";
import { taskNames, useServer } from "../server.ts";
import { looksLikeCsv, readTable, type Shades, shades, type Table } from "../tables.ts";

const MOST_LINES = 5000;
const NEAREST = 8;
const CLUSTERS = [2, 3, 4, 5, 6, 7, 8, 9, 10];
/** The choice of colours that is not the name of a column. */
const BY_CLUSTER = "";

interface Result {
  model: string;
  task: string;
  table: Table;
  vectors: Matrix;
  points: Float32Array;
  explained: [number, number];
  truncated: number;
}

export function MapView({ visible }: { visible: boolean }) {
  const { api, model } = useServer();
  const [text, setText] = useState(MAP_EXAMPLE);
  const [textColumn, setTextColumn] = useState<string | undefined>(undefined);
  const [asLines, setAsLines] = useState(false);
  const [wanted, setWanted] = useState("");
  const [result, setResult] = useState<Result | null>(null);
  const [progress, setProgress] = useState<[done: number, total: number]>([0, 0]);
  const [fileError, setFileError] = useState<Error | null>(null);
  const task = useTask();
  const csvLike = useMemo(() => looksLikeCsv(text), [text]);
  const csv = csvLike && !asLines;
  const table = useMemo(() => readTable(text, csv, textColumn), [text, csv, textColumn]);
  const chosenTask = model?.prompts?.[wanted] === undefined ? "" : wanted;

  const draw = () =>
    task.run(async (signal) => {
      if (!model) throw new Error("There is no model yet. Load one in the view Status.");
      const count = table.texts.length;
      if (count < 3) throw new Error("A map needs at least three lines.");
      if (count > MOST_LINES) {
        const limits = [MOST_LINES, count].map((number) => number.toLocaleString("en"));
        throw new Error(`The map shows at most ${limits[0]} lines, and there are ${limits[1]}. Remove some.`);
      }
      setProgress([0, count]);
      const lines = table.texts.map((one) => ({ text: one, task: chosenTask, title: "" }));
      const found = await api.embed(model.id, lines, { signal, progress: (done) => setProgress([done, count]) });
      const { points, explained } = await compute("project", found.vectors);
      if (signal.aborted) return;
      const { vectors, truncated } = found;
      setResult({ model: model.id, task: chosenTask, table, vectors, points, explained, truncated });
    });

  const ready = model?.status === "loaded";
  useEffect(() => {
    if (visible && ready && text === MAP_EXAMPLE) draw();
  }, [visible, model?.id, ready]);

  const take = async ([file]: File[]) => {
    if (!file) return;
    const content = await file.text();
    if (content.includes("\0")) {
      setFileError(new Error(`The file ${file.name} is not text. Drop a text or CSV file.`));
      return;
    }
    setFileError(null);
    setText(content);
  };

  return (
    <div class="columns">
      <section class="card" aria-labelledby="map-lines">
        <div class="card-head">
          <h2 id="map-lines">Lines</h2>
          <span class="hint">
            {table.texts.length.toLocaleString("en")}
            {csv && `, ${table.textColumns.length} columns`}
          </span>
        </div>
        <FileDrop accept=".txt,.csv,.tsv,text/*" label="Choose a file" multiple={false} onFiles={(files) => void take(files)}>
          <textarea
            rows={11}
            spellcheck={false}
            aria-label="Lines or CSV"
            value={text}
            onInput={(event) => {
              setText(event.currentTarget.value);
              setTextColumn(undefined);
            }}
          />
        </FileDrop>
        <ErrorNote error={fileError} />
        {csvLike && (
          <label class="inline">
            <input type="checkbox" checked={!asLines} onChange={(event) => setAsLines(!event.currentTarget.checked)} />
            The first line names the columns (CSV)
          </label>
        )}
        {csv && (
          <Field label="Column with the text">
            {(id) => (
              <select id={id} value={table.textColumn} onChange={(event) => setTextColumn(event.currentTarget.value)}>
                {table.textColumns.map((name) => (
                  <option key={name} value={name}>
                    {name}
                  </option>
                ))}
              </select>
            )}
          </Field>
        )}
        {taskNames(model).length > 0 && (
          <Field label="Task">{(id) => <TaskMenu id={id} value={chosenTask} onChange={setWanted} />}</Field>
        )}
        <div class="row">
          <button type="button" class="primary" disabled={task.running} onClick={draw}>
            Draw the map
          </button>
          <button type="button" class="quiet" onClick={() => setText("")}>
            Clear
          </button>
        </div>
        <ErrorNote error={task.error} />
      </section>
      <section class="results" aria-label="Map">
        {task.running && (
          <Progress text={`Embedding ${progress[0]} of ${progress[1]}`} done={progress[0]} total={progress[1]} onStop={task.stop} />
        )}
        {result && <Picture result={result} />}
      </section>
    </div>
  );
}

function Picture({ result }: { result: Result }) {
  const { table, vectors, points, explained, truncated } = result;
  const theme = useTheme();
  const [area, width] = useWidth<HTMLDivElement>();
  const [by, setBy] = useState(BY_CLUSTER);
  const [count, setCount] = useState(5);
  const [assigned, setAssigned] = useState<Uint16Array | null>(null);
  const [hovered, setHovered] = useState<number | null>(null);
  const [chosen, setChosen] = useState<number | null>(null);
  const [near, setNear] = useState<{ row: number; score: number }[]>([]);
  const [words, setWords] = useState("");
  const column = table.columns.get(by);

  useEffect(() => {
    let current = true;
    void compute("cluster", vectors, count).then((found) => current && setAssigned(found));
    return () => void (current = false);
  }, [vectors, count]);
  useEffect(() => {
    setHovered(null);
    setChosen(null);
  }, [vectors]);
  useEffect(() => {
    let current = true;
    setNear([]);
    if (chosen !== null && chosen < vectors.rows) {
      void compute("neighbours", vectors, chosen, NEAREST).then((found) => current && setNear(found));
    }
    return () => void (current = false);
  }, [vectors, chosen]);

  const shown = useMemo<Shades>(() => {
    if (column) return shades(column, MOST_CATEGORIES);
    const of = assigned?.length === vectors.rows ? [...assigned] : new Array<number>(vectors.rows).fill(0);
    return { kind: "categories", names: Array.from({ length: count }, (_, i) => `cluster ${i + 1}`), of };
  }, [column, assigned, count, vectors]);
  const colours = useMemo(
    () => shown.of.map((value) => (shown.kind === "scale" ? css(shade(theme, 0.15 + 0.85 * value)) : category(theme, value))),
    [shown, theme],
  );
  const found = useMemo(() => {
    const wanted = words.trim().toLowerCase();
    if (wanted === "") return [];
    return table.texts.flatMap((text, row) => (text.toLowerCase().includes(wanted) ? [row] : [])).slice(0, NEAREST);
  }, [words, table]);
  const focus = hovered ?? chosen;
  const row = focus !== null && focus < vectors.rows ? focus : null;
  const neighbours = useMemo(() => near.map((one) => one.row), [near]);
  return (
    <>
      <div class="card">
        <div class="card-head">
          <h2>Map</h2>
          <span class="hint">
            the first two principal components, {Math.round((explained[0] + explained[1]) * 100)} % of the variance
          </span>
          <CopyAs
            shown={() => ({
              operation: "embeddings",
              model: result.model,
              lines: table.texts.map((text) => ({ text, task: result.task, title: "" })),
              truncate: truncated > 0,
            })}
          />
        </div>
        {truncated > 0 && (
          <p class="note">
            {truncated === 1 ? "One line was" : `${truncated.toLocaleString("en")} lines were`} longer than the model reads, and cut.
          </p>
        )}
        <div class="row">
          <label class="inline">
            Colour by
            <select value={by} onChange={(event) => setBy(event.currentTarget.value)}>
              <option value={BY_CLUSTER}>cluster</option>
              {[...table.columns.keys()].map((name) => (
                <option key={name} value={name}>
                  {name}
                </option>
              ))}
            </select>
          </label>
          {!column && (
            <label class="inline">
              Clusters
              <select value={count} onChange={(event) => setCount(Number(event.currentTarget.value))}>
                {CLUSTERS.map((number) => (
                  <option key={number} value={number}>
                    {number}
                  </option>
                ))}
              </select>
            </label>
          )}
        </div>
        <div ref={area}>
          <Scatter
            points={points}
            colours={colours}
            width={width}
            height={Math.max(300, Math.min(480, Math.round(width * 0.62)))}
            hovered={row === hovered ? hovered : null}
            chosen={chosen !== null && chosen < vectors.rows ? chosen : null}
            neighbours={neighbours}
            label={hovered === null ? "" : (table.texts[hovered] ?? "")}
            onHover={setHovered}
            onChoose={setChosen}
          />
        </div>
        <MapLegend shown={shown} />
        <p class="readout short" role="status">
          {row === null ? (
            "Point at a dot to read its line. Choose one for the nearest lines."
          ) : (
            <>
              <span class="number">{row + 1}</span> {table.texts[row]}
            </>
          )}
        </p>
      </div>
      <div class="card">
        <div class="card-head">
          <h2>{chosen === null ? "Find a line" : `Nearest to line ${chosen + 1}`}</h2>
        </div>
        {chosen !== null && <p class="quoted">{table.texts[chosen]}</p>}
        {chosen !== null && (
          <ol>
            {near.map((one) => (
              <LineButton key={one.row} row={one.row} text={table.texts[one.row]!} score={one.score} onChoose={setChosen} />
            ))}
          </ol>
        )}
        <Field label="Lines that contain">
          {(id) => <input id={id} type="search" value={words} onInput={(event) => setWords(event.currentTarget.value)} />}
        </Field>
        {words.trim() !== "" && (
          <ol>
            {found.map((one) => (
              <LineButton key={one} row={one} text={table.texts[one]!} onChoose={setChosen} />
            ))}
            {found.length === 0 && <li class="hint">No line contains this.</li>}
          </ol>
        )}
      </div>
    </>
  );
}

function LineButton(props: { row: number; text: string; score?: number; onChoose: (row: number) => void }) {
  return (
    <li>
      <button type="button" class="result-line" onClick={() => props.onChoose(props.row)}>
        <span class="number">{props.row + 1}</span>
        <span class="words">{props.text}</span>
        {props.score !== undefined && (
          <>
            <span class="score">{decimals(props.score, 3)}</span>
            <Bar value={props.score} />
          </>
        )}
      </button>
    </li>
  );
}

function MapLegend({ shown }: { shown: Shades }) {
  const theme = useTheme();
  if (shown.kind === "scale") {
    const stops = Array.from({ length: 11 }, (_, index) => css(shade(theme, 0.15 + 0.085 * index)));
    return (
      <div class="legend">
        <span>{shown.least}</span>
        <span class="ramp" style={{ background: `linear-gradient(90deg, ${stops.join(", ")})` }} />
        <span>{shown.most}</span>
      </div>
    );
  }
  return (
    <ul class="categories">
      {shown.names.map((name, index) => (
        <li key={index}>
          <span class="swatch" style={{ background: category(theme, index) }} />
          {name === "" ? "(empty)" : name}
        </li>
      ))}
    </ul>
  );
}
