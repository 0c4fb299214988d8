/** Arithmetic on vectors that does not need the page: similarities, principal components, clusters. */

/** Rows of equal length in one array: row `i` is `data.subarray(i * size, (i + 1) * size)`. */
export interface Matrix {
  data: Float32Array;
  rows: number;
  size: number;
}

/** Scale each row to length 1; a row of zeros stays as it is. */
export function normalise(matrix: Matrix): Matrix {
  const { data, rows, size } = matrix;
  const scaled = new Float32Array(data.length);
  for (let row = 0; row < rows; row++) {
    let sum = 0;
    for (let i = row * size; i < (row + 1) * size; i++) sum += data[i]! * data[i]!;
    const scale = sum > 0 ? 1 / Math.sqrt(sum) : 0;
    for (let i = row * size; i < (row + 1) * size; i++) scaled[i] = data[i]! * scale;
  }
  return { data: scaled, rows, size };
}

/** Return the cosines of all pairs of rows, shape `(rows, rows)`. */
export function cosines(matrix: Matrix): Float32Array {
  const { data, rows, size } = normalise(matrix);
  const result = new Float32Array(rows * rows);
  for (let row = 0; row < rows; row++) {
    for (let other = row; other < rows; other++) {
      const value = dot(data, row * size, data, other * size, size);
      result[row * rows + other] = value;
      result[other * rows + row] = value;
    }
  }
  return result;
}

/** Return the cosine of each row to one vector. */
export function cosinesTo(matrix: Matrix, vector: Float32Array): Float32Array {
  const { data, rows, size } = normalise(matrix);
  const unit = normalise({ data: vector, rows: 1, size }).data;
  return Float32Array.from({ length: rows }, (_, row) => dot(data, row * size, unit, 0, size));
}

function dot(a: Float32Array, start: number, b: Float32Array, other: number, size: number): number {
  let sum = 0;
  for (let i = 0; i < size; i++) sum += a[start + i]! * b[other + i]!;
  return sum;
}

/** How much one set of similarities differs from another, over all pairs of different rows. */
export interface Loss {
  /** Mean and largest absolute difference. */
  mean: number;
  largest: number;
  /** Rows whose nearest other row is the same, of all rows. */
  sameNearest: number;
}

/** Compare two matrices of similarities, shape `(rows, rows)` each. */
export function compareSimilarities(values: Float32Array, exact: Float32Array, rows: number): Loss {
  let sum = 0;
  let largest = 0;
  let sameNearest = 0;
  for (let row = 0; row < rows; row++) {
    for (let other = 0; other < rows; other++) {
      if (other === row) continue;
      const difference = Math.abs(values[row * rows + other]! - exact[row * rows + other]!);
      sum += difference;
      largest = Math.max(largest, difference);
    }
    if (nearest(values, row, rows) === nearest(exact, row, rows)) sameNearest++;
  }
  return { mean: rows > 1 ? sum / (rows * (rows - 1)) : 0, largest, sameNearest };
}

function nearest(values: Float32Array, row: number, rows: number): number {
  let best = -1;
  for (let other = 0; other < rows; other++) {
    if (other !== row && (best < 0 || values[row * rows + other]! > values[row * rows + best]!)) best = other;
  }
  return best;
}

/** Return the indices of the largest values, largest first; equal values in order. */
export function largest(values: ArrayLike<number>, count: number, skip = -1): number[] {
  const indices = Array.from({ length: values.length }, (_, index) => index).filter((index) => index !== skip);
  return indices.sort((a, b) => values[b]! - values[a]! || a - b).slice(0, count);
}

/** A generator of numbers in [0, 1) with a fixed seed (mulberry32), so that a map looks the same each time. */
export function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** The first two principal components. */
export interface Projection {
  /** Coordinates, shape `(rows, 2)`. */
  points: Float32Array;
  /** Share of the variance on each axis. */
  explained: [number, number];
}

/** Project rows on their first two principal components, by power iteration on the centred rows. */
export function principalComponents(matrix: Matrix, iterations = 60): Projection {
  const { data, rows, size } = matrix;
  const centred = Float32Array.from(data);
  for (let column = 0; column < size; column++) {
    let mean = 0;
    for (let row = 0; row < rows; row++) mean += data[row * size + column]!;
    mean /= rows || 1;
    for (let row = 0; row < rows; row++) centred[row * size + column]! -= mean;
  }
  let total = 0;
  for (const value of centred) total += value * value;
  const next = random(1);
  const axes: Float64Array[] = [];
  const points = new Float32Array(rows * 2);
  const explained: [number, number] = [0, 0];
  for (let axis = 0; axis < 2; axis++) {
    let direction = unit(Float64Array.from({ length: size }, () => next() - 0.5), axes);
    for (let step = 0; step < iterations; step++) {
      const moved = new Float64Array(size);
      for (let row = 0; row < rows; row++) {
        let along = 0;
        for (let i = 0, at = row * size; i < size; i++, at++) along += centred[at]! * direction[i]!;
        for (let i = 0, at = row * size; i < size; i++, at++) moved[i]! += along * centred[at]!;
      }
      const following = unit(moved, axes);
      let cosine = 0;
      for (let i = 0; i < size; i++) cosine += following[i]! * direction[i]!;
      direction = following;
      if (1 - Math.abs(cosine) < 1e-9) break;
    }
    let variance = 0;
    for (let row = 0; row < rows; row++) {
      let along = 0;
      for (let i = 0, at = row * size; i < size; i++, at++) along += centred[at]! * direction[i]!;
      points[row * 2 + axis] = along;
      variance += along * along;
    }
    explained[axis] = total > 0 ? variance / total : 0;
    axes.push(direction);
  }
  return { points, explained };
}

/** Return `vector` without its parts along `axes`, scaled to length 1; zeros if nothing is left. */
function unit(vector: Float64Array, axes: readonly Float64Array[]): Float64Array {
  for (const axis of axes) {
    let along = 0;
    for (let i = 0; i < vector.length; i++) along += vector[i]! * axis[i]!;
    for (let i = 0; i < vector.length; i++) vector[i]! -= along * axis[i]!;
  }
  const length = Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0));
  return length > 1e-12 ? vector.map((value) => value / length) : vector.fill(0);
}

/** Operations that all attempts of `clusters` may take; about two seconds. */
const CLUSTER_WORK = 2e9;

/**
 * Divide rows into `count` clusters of similar direction: spherical k-means, the best of up to ten attempts from
 * different seeds. The same rows give the same clusters.
 */
export function clusters(matrix: Matrix, count: number, iterations = 25): Uint16Array {
  const unit = normalise(matrix);
  const next = random(7);
  const wanted = Math.min(count, matrix.rows);
  const work = matrix.rows * matrix.size * wanted * iterations;
  const attempts = Math.min(Math.max(Math.floor(CLUSTER_WORK / (work || 1)), 1), 10);
  let best = { assigned: new Uint16Array(matrix.rows), fit: -Infinity };
  for (let attempt = 0; attempt < attempts; attempt++) {
    const found = attemptClusters(unit, wanted, iterations, next);
    if (found.fit > best.fit) best = found;
  }
  return best.assigned;
}

/** One attempt on rows of length 1; `fit` is the sum of the cosines of the rows to their centres. */
function attemptClusters(
  { data, rows, size }: Matrix,
  count: number,
  iterations: number,
  next: () => number,
): { assigned: Uint16Array<ArrayBuffer>; fit: number } {
  const assigned = new Uint16Array(rows);
  const centres = seeds(data, rows, size, count, next);
  let fit = 0;
  for (let step = 0; step < iterations; step++) {
    let changed = step === 0;
    fit = 0;
    for (let row = 0; row < rows; row++) {
      let best = 0;
      let most = -Infinity;
      for (let centre = 0; centre < count; centre++) {
        const value = dot(data, row * size, centres, centre * size, size);
        if (value > most) [best, most] = [centre, value];
      }
      if (assigned[row] !== best) changed = true;
      assigned[row] = best;
      fit += most;
    }
    if (!changed) break;
    const sums = new Float32Array(count * size);
    for (let row = 0; row < rows; row++) {
      for (let i = 0; i < size; i++) sums[assigned[row]! * size + i]! += data[row * size + i]!;
    }
    centres.set(normalise({ data: sums, rows: count, size }).data);
  }
  return { assigned, fit };
}

/** Choose seeds by k-means++: each next one with a probability that grows with its distance to those before. */
function seeds(data: Float32Array, rows: number, size: number, count: number, next: () => number): Float32Array {
  const centres = new Float32Array(count * size);
  const distance = new Float64Array(rows).fill(Infinity);
  let chosen = Math.floor(next() * rows);
  for (let centre = 0; centre < count; centre++) {
    centres.set(data.subarray(chosen * size, (chosen + 1) * size), centre * size);
    let total = 0;
    for (let row = 0; row < rows; row++) {
      const away = Math.max(0, 1 - dot(data, row * size, centres, centre * size, size));
      distance[row] = Math.min(distance[row]!, away);
      total += distance[row]!;
    }
    let draw = next() * total;
    chosen = 0;
    for (let row = 0; row < rows; row++) {
      draw -= distance[row]!;
      if (draw <= 0 && distance[row]! > 0) {
        chosen = row;
        break;
      }
    }
  }
  return centres;
}
