/** Compare: the similarities of lines, at every size and type of vector that the model offers. */

import { useEffect, useState } from "preact/hooks";
import { type Line, type Model } from "../api.ts";
import { compute } from "../compute.ts";
import { type Form, formBytes, formName, forms } from "../encodings.ts";
import { largest, type Loss } from "../math.ts";
import { Bar, decimals, ErrorNote, Progress, useTask, useWidth } from "../parts/basics.tsx";
import { CopyAs } from "../parts/copy.tsx";
import { LineEditor } from "../parts/lines.tsx";
import { type Cell, Legend, Matrix } from "../parts/matrix.tsx";
import { useServer } from "../server.ts";

/** Most lines: a heat map of more has less than a pixel a pair. */
const MOST_LINES = 1000;
/** Most lines whose values are also shown as a table. */
const TABLE_LINES = 24;
/** Lines that are listed as the nearest ones. */
const NEAREST = 8;

const EXAMPLE: readonly [text: string, task: string][] = [
  ["How do bees make honey?", "query"],
  ["What keeps a suspension bridge up?", "query"],
  ["Worker bees collect nectar and dry it in the comb until it is honey.", "document"],
  ["The main cables carry the weight of the deck to the towers.", "document"],
  ["Honey keeps for years because it contains little water.", "document"],
  ["The train to the coast leaves at nine.", "document"],
];

/** The similarities in one form of the vectors. */
interface Panel {
  form: Form;
  values: Float32Array;
  loss: Loss | null;
}

interface Result {
  model: string;
  lines: Line[];
  panels: Panel[];
  range: [number, number];
  truncated: number;
}

function example(model: Model | null): Line[] {
  const known = (task: string) => (model?.prompts?.[task] === undefined ? "" : task);
  return EXAMPLE.map(([text, task]) => ({ text, task: known(task), title: "" }));
}

export function Compare({ visible }: { visible: boolean }) {
  const { api, model } = useServer();
  const [edited, setEdited] = useState<Line[] | null>(null);
  const [result, setResult] = useState<Result | null>(null);
  const [progress, setProgress] = useState<[done: number, total: number]>([0, 0]);
  const task = useTask();
  const lines = edited ?? example(model);
  const written = lines.filter((line) => line.text.trim() !== "");

  const compare = () =>
    task.run(async (signal) => {
      if (!model) throw new Error("There is no model yet. Load one in the view Status.");
      if (written.length < 2) throw new Error("Write at least two lines to compare.");
      if (written.length > MOST_LINES) {
        const count = written.length.toLocaleString("en");
        throw new Error(`Compare shows at most ${MOST_LINES} lines, and there are ${count}. Use the view Map for more.`);
      }
      const known = (line: Line) => (model.prompts?.[line.task] === undefined ? { ...line, task: "", title: "" } : line);
      const sent = written.map(known);
      const panels: Panel[] = [];
      let list: Form[] = [{ dimensions: 0, dtype: "float32" }];
      let truncated = 0;
      for (let place = 0; place < list.length; place++) {
        const form = list[place]!;
        const embedded = await api.embed(model.id, sent, {
          dtype: form.dtype,
          signal,
          ...(form.dimensions ? { dimensions: form.dimensions } : {}),
          progress: (done) => setProgress([place * sent.length + done, Math.max(list.length, 3) * sent.length]),
        });
        if (place === 0) {
          list = forms(embedded.vectors.size, model.allowed_dimensions ?? []);
          truncated = embedded.truncated;
        }
        const exact = panels[0]?.values ?? null;
        const { values, loss } = await compute("similarities", embedded.vectors, exact);
        if (signal.aborted) return;
        panels.push({ form: list[place]!, values, loss });
        setResult({ model: model.id, lines: sent, panels: [...panels], range: rangeOf(panels, sent.length), truncated });
      }
    });

  const ready = model?.status === "loaded";
  useEffect(() => {
    if (visible && ready && edited === null) compare(); // shows the example at once, and again for another model
  }, [visible, model?.id, ready]);

  return (
    <div class="columns">
      <section class="card" aria-labelledby="compare-lines">
        <div class="card-head">
          <h2 id="compare-lines">Lines</h2>
          <span class="hint">{written.length.toLocaleString("en")}</span>
        </div>
        <LineEditor lines={lines} onChange={setEdited} />
        <p class="hint">Paste several lines into one line to add them all.</p>
        <div class="row">
          <button type="button" class="primary" disabled={task.running} onClick={compare}>
            Compare
          </button>
          {model && !model.tasks?.length && ready && <span class="hint">This model has no prompts.</span>}
        </div>
        <ErrorNote error={task.error} />
      </section>
      <section class="results" aria-label="Similarities">
        {task.running && (
          <Progress text={`Embedding ${progress[0]} of ${progress[1]}`} done={progress[0]} total={progress[1]} onStop={task.stop} />
        )}
        {result && <Similarities key={result.model} result={result} />}
      </section>
    </div>
  );
}

/** The least and the largest similarity of different lines, over all panels. */
function rangeOf(panels: readonly Panel[], rows: number): [number, number] {
  let [low, high] = [1, -1];
  for (const { values } of panels) {
    for (let row = 0; row < rows; row++) {
      for (let other = 0; other < row; other++) {
        const value = values[row * rows + other]!;
        if (value < low) low = value;
        if (value > high) high = value;
      }
    }
  }
  return low <= high ? [Math.max(-1, low), Math.min(1, high)] : [0, 1];
}

function Similarities({ result }: { result: Result }) {
  const { lines, panels, range, truncated } = result;
  const rows = lines.length;
  const [cursor, setCursor] = useState<Cell | null>(null);
  const [chosen, setChosen] = useState(0);
  const [selected, setSelected] = useState(0);
  const [area, width] = useWidth<HTMLDivElement>();
  const main = panels[Math.min(selected, panels.length - 1)]!;
  const row = Math.min(chosen, rows - 1);
  const pair = cursor && cursor[0] < rows && cursor[1] < rows ? cursor : null;
  const choose = (cell: Cell) => setChosen(cell[0]);
  const edge = Math.min(width, 560);
  return (
    <>
      <div class="card">
        <div class="card-head">
          <h2>Cosine similarity</h2>
          <span class="hint">{formName(main.form)}</span>
          <CopyAs shown={() => ({ operation: "embeddings", model: result.model, lines, form: main.form, truncate: truncated > 0 })} />
        </div>
        {truncated > 0 && (
          <p class="note">
            {truncated === 1 ? "One line was" : `${truncated} lines were`} longer than the model reads, and cut.
          </p>
        )}
        <div class="compare-main">
          <div ref={area} class="matrix-area">
            <Matrix values={main.values} rows={rows} edge={edge} range={range} cursor={pair} labels onCursor={setCursor} onChoose={choose} />
            <Legend range={range} />
          </div>
          <div class="compare-side">
            <p class="readout" role="status">
              {pair ? (
                <>
                  <b>{decimals(main.values[pair[0] * rows + pair[1]]!, 4)}</b> between line {pair[0] + 1} and line {pair[1] + 1}
                  <q>{lines[pair[0]]!.text}</q>
                  <q>{lines[pair[1]]!.text}</q>
                </>
              ) : (
                "Point at a cell for the value. Choose one for the nearest lines."
              )}
            </p>
            <Nearest lines={lines} panel={main} row={row} onChoose={setChosen} />
          </div>
        </div>
      </div>
      <div class="card">
        <div class="card-head">
          <h2>What smaller vectors lose</h2>
        </div>
        <p class="hint">
          Differences to {formName(panels[0]!.form)} over all pairs. All maps have the same colours; choose one to see it large.
        </p>
        <ul class="panels">
          {panels.map((panel, index) => (
            <li key={formName(panel.form)}>
              <button type="button" class="panel" aria-pressed={index === selected} onClick={() => setSelected(index)}>
                <Matrix values={panel.values} rows={rows} edge={132} range={range} cursor={pair} labels={false} onCursor={setCursor} onChoose={choose} />
                <strong>{formName(panel.form)}</strong>
                <span>{formBytes(panel.form).toLocaleString("en")} bytes</span>
                <LossText loss={panel.loss} rows={rows} />
                {pair && <span class="value">{decimals(panel.values[pair[0] * rows + pair[1]]!, 4)}</span>}
              </button>
            </li>
          ))}
        </ul>
      </div>
      {rows <= TABLE_LINES && <ValueTable lines={lines} panel={main} />}
    </>
  );
}

function LossText({ loss, rows }: { loss: Loss | null; rows: number }) {
  if (!loss) return <span>reference</span>;
  return (
    <>
      <span>mean difference {loss.mean.toFixed(3)}</span>
      <span>largest {loss.largest.toFixed(3)}</span>
      <span>
        same nearest: {loss.sameNearest} of {rows}
      </span>
    </>
  );
}

function Nearest({ lines, panel, row, onChoose }: { lines: readonly Line[]; panel: Panel; row: number; onChoose: (row: number) => void }) {
  const scores = panel.values.subarray(row * lines.length, (row + 1) * lines.length);
  return (
    <div class="nearest">
      <h3>
        Nearest to line {row + 1}: <span class="quoted">{lines[row]!.text}</span>
      </h3>
      <ol>
        {largest(scores, NEAREST, row).map((other) => (
          <li key={other}>
            <button type="button" class="result-line" onClick={() => onChoose(other)}>
              <span class="number">{other + 1}</span>
              <span class="words">{lines[other]!.text}</span>
              <span class="score">{decimals(scores[other]!, 3)}</span>
              <Bar value={scores[other]!} />
            </button>
          </li>
        ))}
      </ol>
    </div>
  );
}

function ValueTable({ lines, panel }: { lines: readonly Line[]; panel: Panel }) {
  const rows = lines.length;
  return (
    <details class="card">
      <summary>All values as a table</summary>
      <div class="scroll" tabIndex={0} role="region" aria-label="Values">
        <table class="values">
          <thead>
            <tr>
              <th scope="col">line</th>
              {lines.map((_, index) => (
                <th key={index} scope="col">
                  {index + 1}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {lines.map((line, row) => (
              <tr key={row}>
                <th scope="row">
                  {row + 1} <span class="words">{line.text}</span>
                </th>
                {lines.map((_, column) => (
                  <td key={column}>{decimals(panel.values[row * rows + column]!, 3)}</td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}
