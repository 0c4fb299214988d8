/** A line over time, drawn by uPlot. */

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { useTheme } from "../colours.ts";
import { useWidth } from "./basics.tsx";

const HEIGHT = 150;
/** The time that the whole width shows. */
const SHOWN_SECONDS = 300;

export interface ChartProps {
  title: string;
  /** Seconds since 1970, and a value for each, null where there is none. */
  times: readonly number[];
  values: readonly (number | null)[];
  /** Write a value with its unit. */
  format: (value: number) => string;
}

export function Chart({ title, times, values, format }: ChartProps) {
  const theme = useTheme();
  const [area, width] = useWidth<HTMLDivElement>();
  const plot = useRef<uPlot | null>(null);
  const latest = values.findLast((value) => value !== null) ?? null;
  useEffect(() => {
    if (!area.current || width === 0) return;
    const style = getComputedStyle(area.current);
    const colour = (name: string) => style.getPropertyValue(name);
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    plot.current = new uPlot(
      {
        width,
        height: HEIGHT,
        padding: [10, 4, 0, 0],
        legend: { show: false },
        cursor: { points: { size: 6 }, y: false, drag: { x: false, y: false } },
        scales: { x: { range: (_, _first, last) => [last - SHOWN_SECONDS, last] }, y: { range: (_, _low, high) => [0, high > 0 ? high * 1.15 : 1] } },
        axes: [
          { ...axis, values: (_, marks) => marks.map(clock), incrs: [60, 120, 300], space: 56, size: 26 },
          { ...axis, values: (_, marks) => marks.map(format), size: 52, space: 34 },
        ],
        series: [{}, { stroke: colour("--accent"), fill: colour("--accent-soft"), width: 2, points: { show: false } }],
      },
      [[...times], [...values]],
      area.current,
    );
    return () => {
      plot.current?.destroy();
      plot.current = null;
    };
  }, [width, theme]);
  useEffect(() => {
    plot.current?.setData([[...times], [...values]]);
  }, [times, values]);
  return (
    <figure class="card chart">
      <figcaption>
        <span>{title}</span>
        <b>{latest === null ? "–" : format(latest)}</b>
      </figcaption>
      <div ref={area} role="img" aria-label={`${title} over the last minutes; now ${latest === null ? "no value" : format(latest)}`} />
    </figure>
  );
}

function clock(seconds: number): string {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
}
