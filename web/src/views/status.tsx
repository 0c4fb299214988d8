/** Status: the models, the load of the server over the last minutes, and bulk jobs. */

import { useRef, useState } from "preact/hooks";
import { type Api, ApiError, type Batch, type Model, type Stats } from "../api.ts";
import { ErrorNote, useInterval } from "../parts/basics.tsx";
import { Chart } from "../parts/chart.tsx";
import { type Rates, rates } from "../rates.ts";
import { useServer } from "../server.ts";

const PERIOD = 2000;
/** Samples that are kept: five minutes. */
const KEPT = 150;
/** Samples between the two of a rate. */
const SPAN = 2;

interface Sample {
  time: number;
  stats: Stats;
  rates: Rates | null;
}

export function Status({ visible }: { visible: boolean }) {
  const { api, refresh } = useServer();
  const [samples, setSamples] = useState<readonly Sample[]>([]);
  const [batches, setBatches] = useState<readonly Batch[] | "off" | null>(null);
  const [error, setError] = useState<Error | null>(null);
  const asksForJobs = useRef(true); // until the server says that it keeps no batches

  useInterval(() => {
    if (!visible) return;
    void (async () => {
      try {
        const stats = await api.get<Stats>("v1/stats");
        setSamples((before) => {
          const kept = before.length > 0 && before.at(-1)!.stats.uptime > stats.uptime ? [] : before;
          const old = kept.at(-SPAN) ?? kept.at(-1);
          return [...kept, { time: Date.now() / 1000, stats, rates: old ? rates(old.stats, stats) : null }].slice(-KEPT);
        });
        if (asksForJobs.current) setBatches(await jobs(api));
        setError(null);
      } catch (failed) {
        setError(failed instanceof Error ? failed : new Error(String(failed)));
      }
      await refresh();
    })();
  }, PERIOD);
  asksForJobs.current = batches !== "off";

  const last = samples.at(-1);
  const times = samples.map((sample) => sample.time);
  const line = (read: (sample: Sample) => number | null | undefined) => samples.map((sample) => read(sample) ?? null);
  return (
    <div class="stack">
      <ErrorNote error={error} />
      <Models />
      {last && (
        <>
          <dl class="tiles">
            <Tile name="In progress" value={String(Math.max(0, last.stats.in_flight - 1))} />
            <Tile name="Queue" value={`${queued(last.stats).toLocaleString("en")} tokens`} />
            <Tile name="Batch fill" value={last.rates?.batchFill == null ? "–" : `${Math.round(last.rates.batchFill * 100)} %`} />
            <Tile name="Latency, median" value={seconds(last.rates?.median)} />
            <Tile name="Memory" value={last.stats.memory_bytes === null ? "–" : bytes(last.stats.memory_bytes)} />
            <Tile name="Vector cache" value={bytes(last.stats.cache_bytes)} />
            <Tile name="Up for" value={duration(last.stats.uptime)} />
          </dl>
          <div class="charts">
            <Chart title="Requests a second" times={times} values={line((one) => one.rates?.requests)} format={short} />
            <Chart title="Tokens a second" times={times} values={line((one) => one.rates?.tokens)} format={short} />
            <Chart title="Latency, 95th percentile" times={times} values={line((one) => one.rates?.slow)} format={seconds} />
            <Chart title="Tokens in the queue" times={times} values={line((one) => queued(one.stats))} format={short} />
          </div>
        </>
      )}
      {batches !== null && <Jobs batches={batches} />}
    </div>
  );
}

/** Return the newest batches; "off" on a server that keeps none. */
async function jobs(api: Api): Promise<readonly Batch[] | "off"> {
  try {
    return (await api.get<{ data: Batch[] }>("v1/batches?limit=20")).data;
  } catch (failed) {
    if (failed instanceof ApiError && failed.code === "batches_off") return "off";
    throw failed;
  }
}

function Tile({ name, value }: { name: string; value: string }) {
  return (
    <div class="tile">
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

/** The models, with buttons to load and unload them. */
function Models() {
  const { api, models, refresh } = useServer();
  const [busy, setBusy] = useState<readonly string[]>([]);
  const [error, setError] = useState<Error | null>(null);
  const manage = async (action: "load" | "unload", model: Model) => {
    setBusy((before) => [...before, model.id]);
    setError(null);
    try {
      await api.manage(action, model.id);
    } catch (failed) {
      setError(failed instanceof Error ? failed : new Error(String(failed)));
    }
    setBusy((before) => before.filter((id) => id !== model.id));
    await refresh();
  };
  return (
    <section class="card" aria-labelledby="status-models">
      <div class="card-head">
        <h2 id="status-models">Models</h2>
        <span class="hint">Loading and unloading needs an admin key, or a server without keys on this machine.</span>
      </div>
      <ErrorNote error={error} />
      <div class="scroll" tabIndex={0} role="region" aria-label="Table of models">
        <table class="models">
          <thead>
            <tr>
              <th scope="col">Model</th>
              <th scope="col">State</th>
              <th scope="col">Dimensions</th>
              <th scope="col">Limit</th>
              <th scope="col">Arithmetic</th>
              <th scope="col">
                <span class="unseen">Action</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {models.map((model) => (
              <tr key={model.id}>
                <th scope="row">
                  {model.id}
                  {model.reason && <p class="hint">{model.reason}</p>}
                </th>
                <td>
                  <span class={`state ${model.status}`}>{model.status}</span>
                </td>
                <td>{model.dimensions ?? "–"}</td>
                <td>{model.max_tokens === null ? "–" : `${model.max_tokens.toLocaleString("en")} tokens`}</td>
                <td>{model.dtype ?? "–"}</td>
                <td>
                  <button
                    type="button"
                    disabled={busy.includes(model.id) || model.status === "loading"}
                    aria-label={`${model.status === "loaded" ? "Unload" : "Load"} ${model.id}`}
                    onClick={() => void manage(model.status === "loaded" ? "unload" : "load", model)}
                  >
                    {model.status === "loaded" ? "Unload" : "Load"}
                  </button>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function Jobs({ batches }: { batches: readonly Batch[] | "off" }) {
  const listed = batches === "off" ? [] : batches;
  return (
    <section class="card" aria-labelledby="status-jobs">
      <div class="card-head">
        <h2 id="status-jobs">Bulk jobs</h2>
        <span class="hint">
          {batches === "off" ? "This server keeps no batches. It does with --batch-path DIRECTORY." : listed.length || "none"}
        </span>
      </div>
      {listed.length > 0 && (
        <ul class="jobs">
          {listed.map((batch) => (
            <Job key={batch.id} batch={batch} />
          ))}
        </ul>
      )}
    </section>
  );
}

function Job({ batch }: { batch: Batch }) {
  const { total = 0, completed = 0, failed = 0 } = batch.request_counts ?? {};
  const [reason, ...others] = batch.errors?.data ?? [];
  return (
    <li>
      <code>{batch.id}</code>
      <span class={`state ${batch.status === "completed" ? "loaded" : batch.status}`}>{batch.status.replaceAll("_", " ")}</span>
      <progress value={completed + failed} max={total || 1} aria-label={`Progress of ${batch.id}`} />
      <span class="hint">
        {completed.toLocaleString("en")} of {total.toLocaleString("en")}
        {failed > 0 && `, ${failed.toLocaleString("en")} failed`}
        {batch.owner && `, key ${batch.owner}`}
      </span>
      {reason && (
        <p class="hint reason">
          {reason.line != null && `Line ${reason.line.toLocaleString("en")}: `}
          {reason.message}
          {others.length > 0 && ` And ${others.length.toLocaleString("en")} more.`}
        </p>
      )}
    </li>
  );
}

function queued(stats: Stats): number {
  return stats.models.reduce((sum, model) => sum + model.queue_tokens, 0);
}

/** Write a number with at most four characters of digits. */
function short(value: number): string {
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)}M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(0)}k`;
  if (value >= 1e3) return `${(value / 1e3).toFixed(1)}k`;
  return value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1);
}

function seconds(value: number | null | undefined): string {
  if (value == null) return "–";
  return value < 1 ? `${Number((value * 1000).toPrecision(2))} ms` : `${value.toFixed(1)} s`;
}

function bytes(value: number): string {
  const mebibytes = value / 2 ** 20;
  return mebibytes < 1024 ? `${mebibytes.toFixed(0)} MiB` : `${(mebibytes / 1024).toFixed(1)} GiB`;
}

function duration(value: number): string {
  const minutes = Math.floor(value / 60);
  if (minutes < 1) return `${Math.floor(value)} s`;
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}
