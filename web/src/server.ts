/** The server and its models, for all views: one connection, the list of models, and the chosen one. */

import { createContext } from "preact";
import { useCallback, useContext, useEffect, useMemo, useState } from "preact/hooks";
import { Api, ApiError, type Model } from "./api.ts";

export interface Server {
  api: Api;
  models: Model[];
  /** The chosen model; null until the list is there. */
  model: Model | null;
  choose: (id: string) => void;
  /** Why the list of models is not there. */
  error: ApiError | null;
  setKey: (key: string) => void;
  hasKey: boolean;
  refresh: () => Promise<void>;
}

const Context = createContext<Server | null>(null);
export const ServerProvider = Context.Provider;

export function useServer(): Server {
  const server = useContext(Context);
  if (!server) throw new Error("outside of the ServerProvider");
  return server;
}

/** Milliseconds between two looks at models that are loading. */
const LOADING_PERIOD = 1000;

/** The connection and the list of models. */
export function useConnection(): Server {
  const api = useMemo(() => new Api(), []);
  const [models, setModels] = useState<Model[]>([]);
  const [chosen, choose] = useState("");
  const [error, setError] = useState<ApiError | null>(null);
  const [key, rememberKey] = useState("");
  const refresh = useCallback(async () => {
    try {
      setModels((await api.models()).filter((model) => model.status !== "upstream"));
      setError(null);
    } catch (failed) {
      setModels([]);
      setError(failed instanceof ApiError ? failed : new ApiError(String(failed)));
    }
  }, [api]);
  const setKey = useCallback(
    (given: string) => {
      api.key = given;
      rememberKey(given);
    },
    [api],
  );
  useEffect(() => void refresh(), [refresh, key]);
  const loading = models.some((model) => model.status === "loading");
  useEffect(() => {
    if (!loading) return;
    const timer = setInterval(() => void refresh(), LOADING_PERIOD);
    return () => clearInterval(timer);
  }, [loading, refresh]);
  const model = models.find((one) => one.id === chosen) ?? models[0] ?? null;
  return { api, models, model, choose, error, setKey, hasKey: key !== "", refresh };
}

/** The tasks of a model for a menu: without the second names of the same prompt. */
export function taskNames(model: Model | null): string[] {
  const prompts = Object.entries(model?.prompts ?? {});
  const usual = ["query", "document"];
  const first = usual.filter((task) => model?.prompts?.[task] !== undefined);
  const seen = new Set(first.map((task) => model!.prompts![task]));
  for (const [task, prompt] of prompts.sort(([a], [b]) => rank(a) - rank(b))) {
    if (seen.has(prompt)) continue;
    seen.add(prompt);
    first.push(task);
  }
  return first;
}

/** Names in lower case come before the names that other libraries use, such as STS. */
function rank(task: string): number {
  return task === task.toLowerCase() ? 0 : 1;
}

export function takesTitle(model: Model | null, task: string): boolean {
  return model?.prompts?.[task]?.includes("{title}") ?? false;
}
