/** The arithmetic of the page against results that are known. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { clusters, compareSimilarities, cosines, cosinesTo, largest, normalise, principalComponents, random } from "../src/math.ts";

const matrix = (...rows: number[][]) => ({ data: Float32Array.from(rows.flat()), rows: rows.length, size: rows[0]!.length });
const near = (a: number, b: number, tolerance = 1e-6) => assert.ok(Math.abs(a - b) < tolerance, `${a} is not ${b}`);

test("cosines do not depend on lengths", () => {
  const found = cosines(matrix([2, 0], [0, 5], [3, 3], [-1, 0]));
  const expected = [1, 0, Math.SQRT1_2, -1, 0, 1, Math.SQRT1_2, 0, Math.SQRT1_2, Math.SQRT1_2, 1, -Math.SQRT1_2, -1, 0, -Math.SQRT1_2, 1];
  expected.forEach((value, i) => near(found[i]!, value));
});

test("a vector of zeros has similarity 0", () => {
  assert.deepEqual([...cosines(matrix([0, 0], [1, 0]))], [0, 0, 0, 1]);
  assert.deepEqual([...normalise(matrix([0, 0])).data], [0, 0]);
});

test("cosines to a vector", () => {
  const found = cosinesTo(matrix([2, 0], [0, 3]), Float32Array.of(0, 9));
  assert.deepEqual([...found], [0, 1]);
});

test("the largest values come first, and equal ones in order", () => {
  assert.deepEqual(largest([3, 9, 9, 1], 3), [1, 2, 0]);
  assert.deepEqual(largest([3, 9, 9, 1], 2, 1), [2, 0]);
});

test("the loss of similarities", () => {
  const exact = Float32Array.of(1, 0.5, 0.2, 0.5, 1, 0.3, 0.2, 0.3, 1);
  const values = Float32Array.of(1, 0.4, 0.2, 0.4, 1, 0.5, 0.2, 0.5, 1);
  const loss = compareSimilarities(values, exact, 3);
  near(loss.mean, 0.1);
  near(loss.largest, 0.2);
  assert.equal(loss.sameNearest, 2); // line 2 was nearest to line 1, and is now nearest to line 3
  assert.deepEqual(compareSimilarities(exact, exact, 3), { mean: 0, largest: 0, sameNearest: 3 });
});

test("principal components of points on a plane in ten dimensions", () => {
  const next = random(3);
  const rows = Array.from({ length: 200 }, () => {
    const [long, short] = [6 * (next() - 0.5), 2 * (next() - 0.5)];
    return Array.from({ length: 10 }, (_, i) => 5 + (i === 2 ? long : i === 7 ? short : 0));
  });
  const { points, explained } = principalComponents(matrix(...rows));
  near(explained[0] + explained[1], 1, 1e-4);
  assert.ok(explained[0] > 0.8);
  const sign = Math.sign(points[0]! * (rows[0]![2]! - 5));
  rows.forEach((row, i) => near(Math.abs(points[2 * i]!), Math.abs(row[2]! - 5), 0.25));
  assert.ok(rows.filter((row, i) => sign * points[2 * i]! * (row[2]! - 5) > 0).length > 190);
});

test("equal rows have no components", () => {
  const { points, explained } = principalComponents(matrix([1, 2], [1, 2], [1, 2]));
  assert.deepEqual([...points, ...explained], [0, 0, 0, 0, 0, 0, 0, 0]);
});

test("clusters are the directions of the rows", () => {
  const next = random(5);
  const rows = Array.from({ length: 90 }, (_, i) => Array.from({ length: 6 }, (_, d) => (d === i % 3 ? 5 : 0) + next()));
  const found = clusters(matrix(...rows), 3);
  rows.forEach((_, i) => assert.equal(found[i], found[i % 3]));
  assert.equal(new Set(found).size, 3);
  assert.deepEqual(found, clusters(matrix(...rows), 3));
});

test("more clusters than rows", () => {
  assert.equal(clusters(matrix([1, 0], [0, 1]), 9).length, 2);
});
