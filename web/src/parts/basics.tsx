/** Small parts that several views share. */

import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { ApiError } from "../api.ts";
import { taskNames, useServer } from "../server.ts";

/** A labelled control. */
export function Field({ label, children, hint }: { label: string; children: (id: string) => ComponentChildren; hint?: string }) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {children(id)}
      {hint && <p class="hint">{hint}</p>}
    </div>
  );
}

/** An error as the sentence that the server sent. */
export function ErrorNote({ error }: { error: Error | null }) {
  return (
    <div role="alert" class="alert">
      {error && (
        <p class="note error">
          {error.message}
          {error instanceof ApiError && error.code === "invalid_api_key" && " Type the key into the field API key."}
        </p>
      )}
    </div>
  );
}

/** A bar whose length is a similarity. The number stands beside it, so screen readers skip it. */
export function Bar({ value }: { value: number }) {
  return (
    <span class="track" aria-hidden="true">
      <span style={{ width: `${Math.min(Math.max(value, 0), 1) * 100}%` }} />
    </span>
  );
}

/** Write a similarity, with a true minus sign, which is as wide as a digit. */
export function decimals(value: number, places: number): string {
  return value.toFixed(places).replace("-", "−");
}

/** What a screen reader announces and everyone sees while something is going on. */
export function Progress({ text, done, total, onStop }: { text: string; done: number; total: number; onStop: () => void }) {
  return (
    <div class="progress">
      <progress value={done} max={total || 1} aria-label={text} />
      <span role="status">{text}</span>
      <button type="button" class="quiet" onClick={onStop}>
        Stop
      </button>
    </div>
  );
}

/** A menu of the model's tasks; `""` embeds a text as it is. */
export function TaskMenu({ id, value, onChange, label }: { id?: string; value: string; onChange: (task: string) => void; label?: string }) {
  const { model } = useServer();
  const tasks = taskNames(model);
  return (
    <select id={id} aria-label={label} value={value} onChange={(event) => onChange(event.currentTarget.value)}>
      <option value="">plain (no prompt)</option>
      {tasks.map((task) => (
        <option key={task} value={task}>
          {task.replaceAll("_", " ")}
        </option>
      ))}
      {value !== "" && !tasks.includes(value) && <option value={value}>{value}</option>}
    </select>
  );
}

/** One of a few choices, side by side. */
export function Choice<Value extends string>(props: {
  label: string;
  value: Value;
  options: readonly (readonly [Value, string])[];
  onChange: (value: Value) => void;
}) {
  const name = useId();
  return (
    <fieldset class="choice">
      <legend>{props.label}</legend>
      <div class="choices">
        {props.options.map(([value, text]) => (
          <label key={value} class={value === props.value ? "chosen" : ""}>
            <input type="radio" name={name} checked={value === props.value} onChange={() => props.onChange(value)} />
            {text}
          </label>
        ))}
      </div>
    </fieldset>
  );
}

/** A place for files: a button, and the whole area takes files that are dropped on it. */
export function FileDrop({ accept, label, multiple, onFiles, children }: {
  accept: string;
  label: string;
  multiple: boolean;
  onFiles: (files: File[]) => void;
  children?: ComponentChildren;
}) {
  const [over, setOver] = useState(false);
  const input = useRef<HTMLInputElement>(null);
  const take = (files: FileList | null | undefined) => {
    if (files && files.length > 0) onFiles([...files]);
  };
  return (
    <div
      class={over ? "drop over" : "drop"}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        take(event.dataTransfer?.files);
      }}
    >
      {children}
      <p class="drop-line">
        <button type="button" onClick={() => input.current?.click()}>
          {label}
        </button>
        <span class="hint">or drop {multiple ? "them" : "it"} here</span>
        <input
          ref={input}
          type="file"
          multiple={multiple}
          accept={accept}
          hidden
          onChange={(event) => {
            take(event.currentTarget.files);
            event.currentTarget.value = "";
          }}
        />
      </p>
    </div>
  );
}

/** Run `act` again each `period` milliseconds while the page is visible. */
export function useInterval(act: () => void, period: number): void {
  const latest = useRef(act);
  latest.current = act;
  useEffect(() => {
    latest.current();
    const timer = setInterval(() => {
      if (!document.hidden) latest.current();
    }, period);
    return () => clearInterval(timer);
  }, [period]);
}

/** The width of an element, kept up to date. */
export function useWidth<E extends HTMLElement>(): [{ current: E | null }, number] {
  const ref = useRef<E>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    if (!ref.current) return;
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry!.contentRect.width)));
    observer.observe(ref.current);
    return () => observer.disconnect();
  }, []);
  return [ref, width];
}

/** Run one thing at a time; starting another stops the one before. */
export function useTask(): {
  running: boolean;
  error: Error | null;
  run: (work: (signal: AbortSignal) => Promise<void>) => void;
  stop: () => void;
} {
  const [running, setRunning] = useState(false);
  const [error, setError] = useState<Error | null>(null);
  const controller = useRef<AbortController | null>(null);
  const stop = () => {
    controller.current?.abort();
    controller.current = null;
    setRunning(false);
  };
  useEffect(() => stop, []);
  const run = (work: (signal: AbortSignal) => Promise<void>) => {
    controller.current?.abort();
    const mine = new AbortController();
    controller.current = mine;
    setRunning(true);
    setError(null);
    work(mine.signal)
      .catch((failed: unknown) => {
        if (!mine.signal.aborted) setError(failed instanceof Error ? failed : new Error(String(failed)));
      })
      .finally(() => {
        if (controller.current === mine) setRunning(false);
      });
  };
  return { running, error, run, stop };
}
