/** The editor of lines: each has a text, a task and, where the task takes one, a title. */

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Line } from "../api.ts";
import { takesTitle, taskNames, useServer } from "../server.ts";
import { readLines } from "../tables.ts";
import { TaskMenu } from "./basics.tsx";

/** Lines that are shown at once. A page of a thousand menus would be slow. */
const PAGE = 20;

export function LineEditor({ lines, onChange }: { lines: readonly Line[]; onChange: (lines: Line[]) => void }) {
  const { model } = useServer();
  const [page, setPage] = useState(0);
  const [focus, setFocus] = useState<number | null>(null);
  const list = useRef<HTMLOListElement>(null);
  const pages = Math.max(1, Math.ceil(lines.length / PAGE));
  const shown = Math.min(page, pages - 1);
  const start = shown * PAGE;
  const prompts = taskNames(model).length > 0;
  // Before the next key is handled, so that it is typed into the new line.
  useLayoutEffect(() => {
    if (focus === null) return;
    list.current?.querySelectorAll<HTMLTextAreaElement>(".text")[focus - start]?.focus();
    setFocus(null);
  }, [focus, start]);
  const change = (index: number, changed: Partial<Line>) =>
    onChange(lines.map((line, place) => (place === index ? { ...line, ...changed } : line)));
  const insert = (index: number, texts: readonly string[], instead: number) => {
    const like = lines[instead ? index : index - 1] ?? lines.at(-1);
    const added = texts.map((text) => ({ text, task: like?.task ?? "", title: "" }));
    onChange([...lines.slice(0, index), ...added, ...lines.slice(index + instead)]);
  };
  const goTo = (index: number) => {
    setPage(Math.floor(index / PAGE));
    setFocus(index);
  };
  const paste = (index: number, event: ClipboardEvent) => {
    const texts = readLines(event.clipboardData?.getData("text/plain") ?? "");
    if (texts.length < 2) return;
    event.preventDefault();
    if (lines[index]!.text.trim() === "") insert(index, texts, 1);
    else insert(index + 1, texts, 0);
  };
  return (
    <>
      <ol class="lines" ref={list} start={start + 1}>
        {lines.slice(start, start + PAGE).map((line, offset) => {
          const index = start + offset;
          return (
            <li key={index}>
              <span class="number" aria-hidden="true">
                {index + 1}
              </span>
              <span class="grows" data-text={line.text}>
                <textarea
                  class="text"
                  rows={1}
                  aria-label={`Text of line ${index + 1}`}
                  value={line.text}
                  onInput={(event) => change(index, { text: event.currentTarget.value })}
                  onPaste={(event) => paste(index, event)}
                  onKeyDown={(event) => {
                    if (event.key !== "Enter" || event.isComposing || event.ctrlKey || event.metaKey) return;
                    event.preventDefault();
                    insert(index + 1, [""], 0);
                    goTo(index + 1);
                  }}
                />
              </span>
              <button
                type="button"
                class="quiet remove"
                aria-label={`Remove line ${index + 1}`}
                title="Remove this line"
                onClick={() => {
                  onChange(lines.filter((_, place) => place !== index));
                  goTo(Math.max(0, index - 1));
                }}
              >
                ×
              </button>
              {prompts && (
                <div class="line-options">
                  <TaskMenu
                    label={`Task of line ${index + 1}`}
                    value={line.task}
                    onChange={(task) => change(index, { task, title: takesTitle(model, task) ? line.title : "" })}
                  />
                  {takesTitle(model, line.task) && (
                    <input
                      type="text"
                      aria-label={`Title of line ${index + 1}`}
                      placeholder="title (optional)"
                      value={line.title}
                      onInput={(event) => change(index, { title: event.currentTarget.value })}
                    />
                  )}
                </div>
              )}
            </li>
          );
        })}
      </ol>
      {pages > 1 && (
        <div class="pager">
          <button type="button" disabled={shown === 0} onClick={() => setPage(shown - 1)}>
            Previous
          </button>
          <span>
            {start + 1}–{Math.min(start + PAGE, lines.length)} of {lines.length.toLocaleString("en")}
          </span>
          <button type="button" disabled={shown === pages - 1} onClick={() => setPage(shown + 1)}>
            Next
          </button>
        </div>
      )}
      <div class="row">
        <button
          type="button"
          onClick={() => {
            insert(lines.length, [""], 0);
            goTo(lines.length);
          }}
        >
          Add a line
        </button>
        <button type="button" class="quiet" onClick={() => onChange([{ text: "", task: "", title: "" }])}>
          Clear
        </button>
        {prompts && (
          <label class="inline">
            Task of all
            <select
              value="choose"
              onChange={(event) => {
                const task = event.currentTarget.value;
                const titled = takesTitle(model, task);
                onChange(lines.map((line) => ({ ...line, task, title: titled ? line.title : "" })));
                event.currentTarget.value = "choose";
              }}
            >
              <option value="choose" disabled>
                choose…
              </option>
              <option value="">plain (no prompt)</option>
              {taskNames(model).map((task) => (
                <option key={task} value={task}>
                  {task.replaceAll("_", " ")}
                </option>
              ))}
            </select>
          </label>
        )}
      </div>
    </>
  );
}
