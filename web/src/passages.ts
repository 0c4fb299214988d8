/** Dividing text and Markdown files into passages that can be found one by one. */

/** A passage of a file. */
export interface Passage {
  text: string;
  /** The headings above it, and the name of the file. */
  title: string;
  file: string;
}

/** Most characters of a passage; about 250 tokens of English, the limit of small models. */
export const PASSAGE = 1000;

/** Files that are read as Markdown. */
const MARKDOWN = /\.(md|markdown|mdx)$/i;

/**
 * Divide a file into passages: a paragraph, a list or a block of code each; short ones are joined up to `PASSAGE`
 * characters, and longer ones divided between sentences. In Markdown a heading begins a passage and becomes its title.
 */
export function readPassages(file: string, content: string): Passage[] {
  const markdown = MARKDOWN.test(file);
  const headings: string[] = [];
  const passages: Passage[] = [];
  let open = "";
  const close = () => {
    const title = headings.filter(Boolean).join(" › ") || file;
    for (const text of divide(open.trim())) passages.push({ text, title, file });
    open = "";
  };
  for (const block of blocks(content, markdown)) {
    const heading = markdown ? /^(#{1,6})\s+(.*?)\s*#*$/.exec(block) : null;
    if (heading) {
      close();
      const level = heading[1]!.length;
      headings.length = level;
      headings[level - 1] = heading[2]!;
    } else {
      if (open !== "" && open.length + block.length > PASSAGE) close();
      open += (open === "" ? "" : "\n\n") + block;
    }
  }
  close();
  return passages;
}

/** Return the paragraphs of a text. Code between fences stays whole, and a heading is a block of its own. */
function blocks(content: string, markdown: boolean): string[] {
  const found: string[] = [];
  let lines: string[] = [];
  let fence = "";
  const close = () => {
    if (lines.length > 0) found.push(lines.join("\n"));
    lines = [];
  };
  for (const line of content.split(/\r\n|\r|\n/)) {
    const mark = markdown ? /^\s*(```+|~~~+)/.exec(line)?.[1] : undefined;
    if (fence !== "") {
      lines.push(line);
      if (mark?.startsWith(fence)) fence = "";
    } else if (mark !== undefined) {
      lines.push(line);
      fence = mark;
    } else if (line.trim() === "") {
      close();
    } else if (markdown && /^#{1,6}\s/.test(line)) {
      close();
      found.push(line);
    } else {
      lines.push(line);
    }
  }
  close();
  return found;
}

/** Divide a long text between sentences, and between words where a sentence is too long. */
function divide(text: string): string[] {
  if (text === "") return [];
  if (text.length <= PASSAGE) return [text];
  const parts: string[] = [];
  let open = "";
  const add = (part: string) => {
    if (open !== "" && open.length + part.length > PASSAGE) {
      parts.push(open.trim());
      open = "";
    }
    open += part;
  };
  for (const { segment } of new Intl.Segmenter(undefined, { granularity: "sentence" }).segment(text)) {
    if (segment.length <= PASSAGE) add(segment);
    else for (const { segment: word } of new Intl.Segmenter(undefined, { granularity: "word" }).segment(segment)) add(word);
  }
  parts.push(open.trim());
  return parts.filter((part) => part !== "");
}
