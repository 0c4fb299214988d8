/** A heat map of the similarities of all pairs of lines, on a canvas. */

import { useEffect, useRef } from "preact/hooks";
import { css, inkOn, shade, useTheme, type Theme } from "../colours.ts";
import { decimals } from "./basics.tsx";

export type Cell = readonly [row: number, column: number];

export interface MatrixProps {
  values: Float32Array;
  rows: number;
  /** Edge in CSS pixels. */
  edge: number;
  /** The similarities at the ends of the colours. */
  range: readonly [number, number];
  cursor: Cell | null;
  /** Numbers of lines at the edges, and values in the cells, where there is room. */
  labels: boolean;
  onCursor: (cell: Cell | null) => void;
  onChoose: (cell: Cell) => void;
}

const MARGIN = 26;
const WITH_GAPS = 9;
const WITH_VALUES = 38;

function layout({ labels, edge, rows }: MatrixProps): { margin: number; cell: number } {
  const margin = labels && (edge - MARGIN) / rows >= 14 ? MARGIN : 0;
  return { margin, cell: (edge - margin) / rows };
}

export function Matrix(props: MatrixProps) {
  const { rows, edge, cursor } = props;
  const theme = useTheme();
  const canvas = useRef<HTMLCanvasElement>(null);
  const image = useRef<{ of: unknown[]; picture: HTMLCanvasElement } | null>(null);
  const { margin, cell } = layout(props);
  useEffect(() => {
    if (!canvas.current || edge <= 0) return;
    const pixels = Math.round(cell * rows * (devicePixelRatio || 1));
    const of = [props.values, theme, props.range[0], props.range[1], pixels];
    if (!image.current || image.current.of.some((part, index) => part !== of[index])) {
      image.current = { of, picture: paint(props, theme, Math.min(rows, pixels)) };
    }
    draw(canvas.current, image.current.picture, props, theme);
  });
  const at = (event: MouseEvent): Cell | null => {
    const box = canvas.current!.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left - margin) / cell);
    const row = Math.floor((event.clientY - box.top - margin) / cell);
    return row >= 0 && column >= 0 && row < rows && column < rows ? [row, column] : null;
  };
  const move = (event: KeyboardEvent) => {
    const steps: Record<string, Cell> = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const step = steps[event.key];
    if (step) {
      const [row, column] = cursor ?? [0, 0];
      const within = (value: number) => Math.min(Math.max(value, 0), rows - 1);
      props.onCursor(cursor ? [within(row + step[0]), within(column + step[1])] : [0, 0]);
    } else if (cursor && (event.key === "Enter" || event.key === " ")) {
      props.onChoose(cursor);
    } else {
      return;
    }
    event.preventDefault();
  };
  const drawing = (
    <canvas
      ref={canvas}
      aria-hidden="true"
      style={{ width: `${edge}px`, height: `${edge}px` }}
      onMouseMove={(event) => props.onCursor(at(event))}
      onMouseLeave={() => props.onCursor(null)}
      onClick={(event) => {
        const found = at(event);
        if (found) props.onChoose(found);
      }}
    />
  );
  if (!props.labels) return drawing;
  return (
    <div
      class="matrix"
      role="application"
      tabIndex={0}
      aria-label="Heat map of similarities. The arrow keys move from pair to pair, Enter shows the nearest lines."
      onKeyDown={move}
      onFocus={() => {
        if (!cursor) props.onCursor([0, Math.min(1, rows - 1)]);
      }}
    >
      {drawing}
    </div>
  );
}

/** Paint one pixel a pair, or `size` times `size` pixels where there are more pairs than that. */
function paint({ values, rows, range: [low, high] }: MatrixProps, theme: Theme, size: number): HTMLCanvasElement {
  const picture = document.createElement("canvas");
  picture.width = picture.height = size;
  const context = picture.getContext("2d")!;
  const pixels = context.createImageData(size, size);
  const table = new Uint8Array(256 * 4);
  for (let i = 0; i < 256; i++) table.set([...shade(theme, i / 255), 255], i * 4);
  const [colours, goal] = [new Uint32Array(table.buffer), new Uint32Array(pixels.data.buffer)];
  const scale = 255 / (high - low || 1);
  const step = rows / size;
  for (let y = 0; y < size; y++) {
    const start = Math.floor((y + 0.5) * step) * rows;
    for (let x = 0; x < size; x++) {
      const part = ((values[start + Math.floor((x + 0.5) * step)]! - low) * scale + 0.5) | 0;
      goal[y * size + x] = colours[part < 0 ? 0 : part > 255 ? 255 : part]!;
    }
  }
  context.putImageData(pixels, 0, 0);
  return picture;
}

function draw(canvas: HTMLCanvasElement, picture: HTMLCanvasElement, props: MatrixProps, theme: Theme): void {
  const { values, rows, edge, cursor, labels, range } = props;
  const { margin, cell } = layout(props);
  const scale = devicePixelRatio || 1;
  canvas.width = canvas.height = Math.round(edge * scale);
  const context = canvas.getContext("2d")!;
  context.scale(scale, scale);
  context.imageSmoothingEnabled = false;
  context.drawImage(picture, margin, margin, cell * rows, cell * rows);
  const style = getComputedStyle(canvas);
  if (cell >= WITH_GAPS) {
    context.fillStyle = style.getPropertyValue("--surface");
    const gap = cell >= WITH_VALUES ? 2 : 1;
    for (let line = 0; line <= rows; line++) {
      context.fillRect(margin + line * cell - gap / 2, margin, gap, rows * cell);
      context.fillRect(margin, margin + line * cell - gap / 2, rows * cell, gap);
    }
  }
  context.textAlign = "center";
  context.textBaseline = "middle";
  if (margin > 0) {
    context.fillStyle = style.getPropertyValue("--muted");
    context.font = "12px system-ui, sans-serif";
    for (let line = 0; line < rows; line++) {
      const middle = margin + (line + 0.5) * cell;
      context.fillText(String(line + 1), middle, margin / 2);
      context.fillText(String(line + 1), margin / 2, middle);
    }
  }
  if (labels && cell >= WITH_VALUES) {
    context.font = `${Math.min(14, cell / 3.2)}px system-ui, sans-serif`;
    for (let i = 0; i < rows * rows; i++) {
      const colour = shade(theme, (values[i]! - range[0]) / (range[1] - range[0] || 1));
      context.fillStyle = inkOn(colour);
      const x = margin + ((i % rows) + 0.5) * cell;
      context.fillText(decimals(values[i]!, 2), x, margin + (Math.floor(i / rows) + 0.5) * cell);
    }
  }
  if (cursor && cursor[0] < rows && cursor[1] < rows) {
    // Two lines, so that one of them differs from the colour of the cell.
    const side = Math.max(cell, 5);
    const [x, y] = [margin + cursor[1] * cell + (cell - side) / 2, margin + cursor[0] * cell + (cell - side) / 2];
    for (const [colour, width] of [["--surface", 5], ["--text", 2]] as const) {
      context.strokeStyle = style.getPropertyValue(colour);
      context.lineWidth = width;
      context.strokeRect(x, y, side, side);
    }
  }
}

/** The colours with the similarities at their ends. */
export function Legend({ range: [low, high] }: { range: readonly [number, number] }) {
  const theme = useTheme();
  const stops = Array.from({ length: 11 }, (_, index) => css(shade(theme, index / 10)));
  return (
    <div class="legend">
      <span>{decimals(low, 2)}</span>
      <span class="ramp" style={{ background: `linear-gradient(90deg, ${stops.join(", ")})` }} />
      <span>{decimals(high, 2)}</span>
    </div>
  );
}
