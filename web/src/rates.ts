/** Rates and latencies from two answers of `/v1/stats`. */

import type { Stats } from "./api.ts";

export interface Rates {
  requests: number;
  tokens: number;
  /** Share of the largest batch that batches used; null without a batch. */
  batchFill: number | null;
  /** Seconds that half, and 95 %, of the responses took at most; null without a response. */
  median: number | null;
  slow: number | null;
}

/** Return what happened between two answers; null if the server was started again in between. */
export function rates(before: Stats, after: Stats): Rates | null {
  const seconds = after.uptime - before.uptime;
  if (seconds <= 0) return null;
  const counts = after.latency.counts.map((count, i) => count - (before.latency.counts[i] ?? 0));
  let [tokens, computed, room] = [0, 0, 0];
  for (const model of after.models) {
    const old = before.models.find((one) => one.id === model.id && one.tokens <= model.tokens);
    tokens += model.tokens - (old?.tokens ?? 0);
    computed += model.batch_tokens - (old?.batch_tokens ?? 0);
    room += (model.batches - (old?.batches ?? 0)) * model.batch_limit;
  }
  return {
    requests: counts.reduce((sum, count) => sum + count, 0) / seconds,
    tokens: tokens / seconds,
    batchFill: room > 0 ? computed / room : null,
    median: quantile(after.latency.bounds, counts, 0.5),
    slow: quantile(after.latency.bounds, counts, 0.95),
  };
}

/** Return a quantile of a histogram, with a straight line inside of a bucket; null for an empty one. */
export function quantile(bounds: readonly number[], counts: readonly number[], share: number): number | null {
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total <= 0) return null;
  let left = share * total;
  for (let i = 0; i < counts.length; i++) {
    const count = counts[i]!;
    if (left <= count && count > 0) {
      const low = i === 0 ? 0 : bounds[i - 1]!;
      const high = bounds[i] ?? low;
      return low + ((high - low) * left) / count;
    }
    left -= count;
  }
  return bounds.at(-1) ?? null;
}
