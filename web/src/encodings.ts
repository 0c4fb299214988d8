/** The forms in which the server sends vectors, and how to read them. */

import type { Matrix } from "./math.ts";

export type Dtype = "float32" | "int8" | "binary";

/** One form of a vector: its number of dimensions and the type of its numbers. */
export interface Form {
  dimensions: number;
  dtype: Dtype;
}

export function formName({ dimensions, dtype }: Form): string {
  return `${dimensions} × ${dtype === "binary" ? "1 bit" : dtype}`;
}

/** Bytes of one vector. */
export function formBytes({ dimensions, dtype }: Form): number {
  return dtype === "float32" ? dimensions * 4 : dtype === "int8" ? dimensions : dimensions / 8;
}

/** Sizes that are shown, if the model was trained for them. */
const SIZES = [768, 512, 256, 128, 64];

/** Return the forms to compare for a model: full size, up to three smaller ones, int8 and binary. */
export function forms(full: number, allowed: readonly number[]): Form[] {
  const smaller = SIZES.filter((size) => size < full && allowed.includes(size)).slice(0, 3);
  const found: Form[] = [full, ...smaller].map((dimensions) => ({ dimensions, dtype: "float32" }));
  found.push({ dimensions: full, dtype: "int8" });
  if (full % 8 === 0) found.push({ dimensions: full, dtype: "binary" });
  return found;
}

/** Put vectors of equal length into one array. */
export function pack(rows: readonly Float32Array[]): Matrix {
  const size = rows[0]?.length ?? 0;
  const data = new Float32Array(rows.length * size);
  rows.forEach((row, index) => data.set(row, index * size));
  return { data, rows: rows.length, size };
}

/** Decode a base64 vector to numbers: float32, int8, or ±1 for each bit. */
export function decodeVector(encoded: string, dtype: Dtype): Float32Array {
  const text = atob(encoded);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  // The server sends the least significant byte first, the order of every machine that runs a browser.
  if (dtype === "float32") return new Float32Array(bytes.buffer);
  if (dtype === "int8") return Float32Array.from(new Int8Array(bytes.buffer));
  return Float32Array.from({ length: bytes.length * 8 }, (_, index) =>
    (bytes[index >> 3]! >> (7 - (index & 7))) & 1 ? 1 : -1,
  );
}
