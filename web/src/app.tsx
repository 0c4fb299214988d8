/** The frame of the page: views, the choice of the model, the API key, and the theme. */

import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { currentTheme, useTheme } from "./colours.ts";
import iconAddress from "./icon.svg";
import { ErrorNote } from "./parts/basics.tsx";
import { ServerProvider, useConnection, useServer } from "./server.ts";
import { Compare } from "./views/compare.tsx";
import { Inspect } from "./views/inspect.tsx";
import { MapView } from "./views/map.tsx";
import { Search } from "./views/search.tsx";
import { Status } from "./views/status.tsx";

interface View {
  id: string;
  name: string;
  about: string;
  component: ComponentType<{ visible: boolean }>;
}

const VIEWS: readonly View[] = [
  { id: "compare", name: "Compare", about: "How similar are these lines, and what do smaller vectors lose?", component: Compare },
  { id: "map", name: "Map", about: "Which of many lines belong together?", component: MapView },
  { id: "search", name: "Search", about: "Which passages of your files answer a question?", component: Search },
  { id: "inspect", name: "Inspect", about: "What does the model read of a text?", component: Inspect },
  { id: "status", name: "Status", about: "What is the server doing?", component: Status },
];

function viewOfAddress(): string {
  const id = location.hash.slice(1);
  return VIEWS.some((view) => view.id === id) ? id : VIEWS[0]!.id;
}

export function App() {
  const server = useConnection();
  const [current, setCurrent] = useState(viewOfAddress);
  const [visited, setVisited] = useState<readonly string[]>([current]);
  useEffect(() => {
    const change = () => setCurrent(viewOfAddress());
    addEventListener("hashchange", change);
    return () => removeEventListener("hashchange", change);
  }, []);
  useEffect(() => {
    setVisited((before) => (before.includes(current) ? before : [...before, current]));
    document.title = `${VIEWS.find((view) => view.id === current)!.name} · embergem`;
  }, [current]);
  return (
    <ServerProvider value={server}>
      <a class="skip" href="#main" onClick={(event) => {
        event.preventDefault();
        document.getElementById("main")?.focus();
      }}>
        Skip to the content
      </a>
      <header class="top">
        <div class="bar">
          <span class="brand">
            <img src={iconAddress} alt="" width={22} height={22} /> embergem
          </span>
          <nav aria-label="Views">
            {VIEWS.map((view) => (
              <a key={view.id} href={`#${view.id}`} aria-current={view.id === current ? "page" : undefined}>
                {view.name}
              </a>
            ))}
          </nav>
          <Settings />
        </div>
      </header>
      <main id="main" tabIndex={-1}>
        {server.error && <Unreachable />}
        {VIEWS.filter((view) => visited.includes(view.id)).map((view) => (
          <div key={view.id} id={`view-${view.id}`} hidden={view.id !== current}>
            <div class="view-head">
              <h1>{view.name}</h1>
              <p>{view.about}</p>
            </div>
            <view.component visible={view.id === current} />
          </div>
        ))}
      </main>
      <footer>
        <a href="docs">API description</a>
        <a href="openapi.json">OpenAPI document</a>
        <span>Texts and keys stay in this page and on this server.</span>
      </footer>
    </ServerProvider>
  );
}

/** Model, API key and theme. */
function Settings() {
  const { models, model, choose, setKey } = useServer();
  const [typed, setTyped] = useState("");
  const theme = useTheme();
  const other = theme === "dark" ? "light" : "dark";
  return (
    <div class="settings">
      <label>
        <span class="label">Model</span>
        <select value={model?.id ?? ""} onChange={(event) => choose(event.currentTarget.value)} disabled={models.length === 0}>
          {models.length === 0 && <option value="">none</option>}
          {models.map((one) => (
            <option key={one.id} value={one.id}>
              {one.id.replace(/^.*\//, "")}
              {one.status === "loaded" ? "" : ` (${one.status})`}
            </option>
          ))}
        </select>
      </label>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          setKey(typed);
        }}
      >
        <label>
          <span class="unseen">API key</span>
          <input
            type="password"
            autocomplete="off"
            size={10}
            placeholder="API key"
            title="For a server with API keys. The key stays in the memory of this page."
            value={typed}
            onInput={(event) => setTyped(event.currentTarget.value)}
            onBlur={() => setKey(typed)}
          />
        </label>
      </form>
      <button
        type="button"
        class="quiet theme"
        aria-label={`Switch to ${other} colours`}
        title={`Switch to ${other} colours`}
        onClick={() => {
          document.documentElement.dataset["theme"] = currentTheme() === "dark" ? "light" : "dark";
        }}
      >
        <svg viewBox="0 0 20 20" width="18" height="18" aria-hidden="true">
          <circle cx="10" cy="10" r="7.25" fill="none" stroke="currentColor" stroke-width="1.5" />
          <path d="M10 2.75a7.25 7.25 0 0 1 0 14.5z" fill="currentColor" />
        </svg>
      </button>
    </div>
  );
}

function Unreachable() {
  const { error, refresh } = useServer();
  return (
    <div class="card unreachable">
      <ErrorNote error={error} />
      <button type="button" onClick={() => void refresh()}>
        Try again
      </button>
    </div>
  );
}
