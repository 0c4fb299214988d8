/** A map of points on a canvas. */

import { useEffect, useRef } from "preact/hooks";
import { useTheme } from "../colours.ts";

export interface ScatterProps {
  /** Coordinates, shape `(rows, 2)`. */
  points: Float32Array;
  colours: readonly string[];
  width: number;
  height: number;
  /** The point under the pointer or the keyboard, and the chosen one with its neighbours. */
  hovered: number | null;
  chosen: number | null;
  neighbours: readonly number[];
  /** What the label beside the hovered point says. */
  label: string;
  onHover: (row: number | null) => void;
  onChoose: (row: number) => void;
}

const PADDING = 18;
/** Farthest distance in pixels at which a point is meant. */
const REACH = 14;

export function Scatter(props: ScatterProps) {
  const { points, width, height, hovered } = props;
  const theme = useTheme();
  const canvas = useRef<HTMLCanvasElement>(null);
  const places = place(points, width, height);
  useEffect(() => {
    if (canvas.current && width > 0) draw(canvas.current, places, props);
  }, [props, theme]);
  const at = (event: MouseEvent): number | null => {
    const box = canvas.current!.getBoundingClientRect();
    return nearestTo(places, event.clientX - box.left, event.clientY - box.top);
  };
  const move = (event: KeyboardEvent) => {
    const directions: Record<string, [number, number]> = {
      ArrowUp: [0, -1],
      ArrowDown: [0, 1],
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
    };
    const direction = directions[event.key];
    if (direction) props.onHover(step(places, hovered ?? 0, direction));
    else if (hovered !== null && (event.key === "Enter" || event.key === " ")) props.onChoose(hovered);
    else return;
    event.preventDefault();
  };
  return (
    <div
      class="matrix map"
      role="application"
      tabIndex={0}
      aria-label="Map of the lines. The arrow keys move from point to point, Enter shows the nearest lines."
      onKeyDown={move}
      onFocus={() => {
        if (hovered === null && points.length > 0) props.onHover(0);
      }}
    >
      <canvas
        ref={canvas}
        aria-hidden="true"
        style={{ width: `${width}px`, height: `${height}px` }}
        onMouseMove={(event) => props.onHover(at(event))}
        onMouseLeave={() => props.onHover(null)}
        onClick={(event) => {
          const row = at(event);
          if (row !== null) props.onChoose(row);
        }}
      />
      {hovered !== null && hovered < places.length / 2 && (
        <span class="tip" aria-hidden="true" style={beside(places[hovered * 2]!, places[hovered * 2 + 1]!, width, height)}>
          {props.label}
        </span>
      )}
    </div>
  );
}

/** Return the place of a label beside a point: towards the middle of the map, so that it stays inside. */
function beside(x: number, y: number, width: number, height: number): Record<string, string> {
  return {
    ...(x < width / 2 ? { left: `${x + REACH}px` } : { right: `${width - x + REACH}px` }),
    ...(y < height / 2 ? { top: `${y + REACH / 2}px` } : { bottom: `${height - y + REACH / 2}px` }),
  };
}

/** Return pixels for coordinates, with the same scale on both axes. */
function place(points: Float32Array, width: number, height: number): Float32Array {
  let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let i = 0; i < points.length; i += 2) {
    left = Math.min(left, points[i]!);
    right = Math.max(right, points[i]!);
    top = Math.min(top, points[i + 1]!);
    bottom = Math.max(bottom, points[i + 1]!);
  }
  const scale = Math.min((width - 2 * PADDING) / (right - left || 1), (height - 2 * PADDING) / (bottom - top || 1));
  return points.map((value, i) =>
    i % 2 === 0 ? width / 2 + (value - (left + right) / 2) * scale : height / 2 - (value - (top + bottom) / 2) * scale,
  );
}

function nearestTo(places: Float32Array, x: number, y: number): number | null {
  let best: number | null = null;
  let least = REACH * REACH;
  for (let i = 0; i < places.length; i += 2) {
    const distance = (places[i]! - x) ** 2 + (places[i + 1]! - y) ** 2;
    if (distance < least) [best, least] = [i / 2, distance];
  }
  return best;
}

/** Return the nearest point in a direction; the same point if there is none. */
function step(places: Float32Array, from: number, [dx, dy]: [number, number]): number {
  let best = from;
  let least = Infinity;
  for (let i = 0; i < places.length; i += 2) {
    const x = places[i]! - places[from * 2]!;
    const y = places[i + 1]! - places[from * 2 + 1]!;
    const along = x * dx + y * dy;
    const aside = Math.abs(x * dy) + Math.abs(y * dx);
    if (along > 0.5 && along >= aside && along + 2 * aside < least) [best, least] = [i / 2, along + 2 * aside];
  }
  return best;
}

function draw(canvas: HTMLCanvasElement, places: Float32Array, props: ScatterProps): void {
  const { width, height, colours, hovered, chosen, neighbours } = props;
  const scale = devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const context = canvas.getContext("2d")!;
  context.scale(scale, scale);
  const style = getComputedStyle(canvas);
  const rows = places.length / 2;
  const radius = rows < 200 ? 6 : rows < 1000 ? 4 : 2.5;
  if (chosen !== null) {
    context.strokeStyle = style.getPropertyValue("--control");
    context.lineWidth = 1;
    for (const other of neighbours) {
      context.beginPath();
      context.moveTo(places[chosen * 2]!, places[chosen * 2 + 1]!);
      context.lineTo(places[other * 2]!, places[other * 2 + 1]!);
      context.stroke();
    }
  }
  context.globalAlpha = rows < 1000 ? 0.9 : 0.65;
  for (let row = 0; row < rows; row++) dot(context, places, row, radius, colours[row]!);
  context.globalAlpha = 1;
  for (const [row, more] of [[chosen, 3], [hovered, 2]] as const) {
    if (row === null || row >= rows) continue;
    dot(context, places, row, radius + more, colours[row]!);
    context.strokeStyle = style.getPropertyValue("--text");
    context.lineWidth = 2;
    context.stroke();
  }
}

function dot(context: CanvasRenderingContext2D, places: Float32Array, row: number, radius: number, colour: string): void {
  context.beginPath();
  context.arc(places[row * 2]!, places[row * 2 + 1]!, radius, 0, 2 * Math.PI);
  context.fillStyle = colour;
  context.fill();
}
