/** Calls of the worker thread as promises. */

import type { Tasks } from "./worker.ts";
import workerAddress from "./worker.ts?worker&url";

interface Waiting {
  resolve: (result: never) => void;
  reject: (error: Error) => void;
}

/** The policy for the one address that trusted types must allow: that of the worker. */
const policy = (
  globalThis as { trustedTypes?: { createPolicy(name: string, rules: object): { createScriptURL(url: string): string } } }
).trustedTypes?.createPolicy("embergem", {
  createScriptURL: (address: string) => {
    if (address !== workerAddress) throw new TypeError("not the address of the worker");
    return address;
  },
});

let worker: Worker | null = null;
let calls = 0;
const waiting = new Map<number, Waiting>();

function start(): Worker {
  const started = new Worker(policy?.createScriptURL(workerAddress) ?? workerAddress, { type: "module" });
  started.addEventListener("message", ({ data }: MessageEvent<{ id: number; result: never; error?: string }>) => {
    const call = waiting.get(data.id);
    waiting.delete(data.id);
    if (data.error === undefined) call?.resolve(data.result);
    else call?.reject(new Error(data.error));
  });
  started.addEventListener("error", () => {
    for (const call of waiting.values()) call.reject(new Error("The worker of the page could not start."));
    waiting.clear();
  });
  return started;
}

/** Run a function of the worker. */
export function compute<Name extends keyof Tasks>(
  name: Name,
  ...parameters: Parameters<Tasks[Name]>
): Promise<ReturnType<Tasks[Name]>> {
  worker ??= start();
  const id = calls++;
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve: resolve as Waiting["resolve"], reject });
    worker!.postMessage({ id, name, parameters });
  });
}
