/** The worker thread: arithmetic that would freeze the page. Each message is one call of `TASKS`. */

import { clusters, compareSimilarities, cosines, cosinesTo, largest, type Loss, type Matrix, principalComponents, type Projection } from "./math.ts";

/** The functions that the worker runs. */
export const TASKS = {
  /** Cosines of all pairs, and how they differ from `exact`, if it is given. */
  similarities(matrix: Matrix, exact: Float32Array | null): { values: Float32Array; loss: Loss | null } {
    const values = cosines(matrix);
    return { values, loss: exact && compareSimilarities(values, exact, matrix.rows) };
  },
  project(matrix: Matrix): Projection {
    return principalComponents(matrix);
  },
  cluster(matrix: Matrix, count: number): Uint16Array {
    return clusters(matrix, count);
  },
  /** The rows nearest to row `row`, with their cosines. */
  neighbours(matrix: Matrix, row: number, count: number): { row: number; score: number }[] {
    const vector = matrix.data.slice(row * matrix.size, (row + 1) * matrix.size);
    const scores = cosinesTo(matrix, vector);
    return largest(scores, count, row).map((other) => ({ row: other, score: scores[other]! }));
  },
};

export type Tasks = typeof TASKS;

interface Call {
  id: number;
  name: keyof Tasks;
  parameters: unknown[];
}

addEventListener("message", ({ data }: MessageEvent<Call>) => {
  try {
    const run = TASKS[data.name] as (...parameters: unknown[]) => unknown;
    postMessage({ id: data.id, result: run(...data.parameters) });
  } catch (error) {
    postMessage({ id: data.id, error: String(error) });
  }
});
