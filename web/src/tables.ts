/** Reading pasted text and files: lines, or the rows of a CSV file. */

import Papa from "papaparse";

/** Texts with the columns of the file that they came from. */
export interface Table {
  texts: string[];
  /** Other columns by name, one value a text. */
  columns: Map<string, string[]>;
  /** Columns that can be the text; empty for plain lines. */
  textColumns: string[];
  textColumn: string;
}

/** Return the lines of a text that are not blank. */
export function readLines(text: string): string[] {
  return text.split(/\r\n|\r|\n/).filter((line) => line.trim() !== "");
}

/** Whether text looks like a CSV file: at least two lines with the same number, two or more, of columns. */
export function looksLikeCsv(text: string): boolean {
  const { data } = Papa.parse<string[]>(text, { preview: 12, skipEmptyLines: "greedy" });
  const widths = data.map((row) => row.length);
  return data.length > 1 && widths[0]! > 1 && widths.every((width) => width === widths[0]);
}

/**
 * Read lines or CSV. A CSV file has names of columns in its first row; `textColumn` says which has the texts, the
 * default is a column called text, or that with the longest values.
 */
export function readTable(text: string, csv: boolean, textColumn?: string): Table {
  if (!csv) return { texts: readLines(text), columns: new Map(), textColumns: [], textColumn: "" };
  const { data } = Papa.parse<string[]>(text, { skipEmptyLines: "greedy" });
  const [header = [], ...rows] = data;
  const names = uniqueNames(header);
  const values = names.map((_, column) => rows.map((row) => row[column] ?? ""));
  const byName = new Map(names.map((name, column) => [name, values[column]!]));
  const length = (name: string) => byName.get(name)!.slice(0, 200).reduce((sum, value) => sum + value.length, 0);
  const usual = names.find((name) => /^(text|content|body|sentence|document)$/i.test(name));
  const longest = names.reduce((best, name) => (length(name) > length(best) ? name : best), names[0] ?? "");
  const chosen = textColumn !== undefined && byName.has(textColumn) ? textColumn : (usual ?? longest);
  const texts = byName.get(chosen) ?? [];
  const kept = texts.map((_, row) => row).filter((row) => texts[row]!.trim() !== "");
  const columns = new Map(
    names.filter((name) => name !== chosen).map((name) => [name, kept.map((row) => byName.get(name)![row]!)]),
  );
  return { texts: kept.map((row) => texts[row]!), columns, textColumns: names, textColumn: chosen };
}

function uniqueNames(header: readonly string[]): string[] {
  const seen = new Set<string>();
  return header.map((given, index) => {
    let name = given.trim() || `column ${index + 1}`;
    while (seen.has(name)) name += "′";
    seen.add(name);
    return name;
  });
}

/** How a column is shown: as categories, the most frequent first, or on a scale of numbers. */
export type Shades =
  | { kind: "categories"; names: string[]; of: number[] }
  | { kind: "scale"; least: number; most: number; of: number[] };

/** Decide how to show a column. A column of numbers with more than `categories` values gets a scale. */
export function shades(values: readonly string[], categories: number): Shades {
  const counts = new Map<string, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  const numbers = values.map((value) => (value.trim() === "" ? NaN : Number(value)));
  if (counts.size > categories && numbers.every((number) => Number.isFinite(number))) {
    const [least, most] = numbers.reduce(([a, b], n) => [Math.min(a, n), Math.max(b, n)], [Infinity, -Infinity]);
    return { kind: "scale", least, most, of: numbers.map((n) => (most > least ? (n - least) / (most - least) : 0)) };
  }
  const sorted = [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).map(([name]) => name);
  const names = sorted.length > categories ? [...sorted.slice(0, categories - 1), "other"] : sorted;
  const place = new Map(sorted.map((name, index) => [name, Math.min(index, names.length - 1)]));
  return { kind: "categories", names, of: values.map((value) => place.get(value)!) };
}
