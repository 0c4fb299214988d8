/** Colours of data, in light and dark. */

import { useEffect, useState } from "preact/hooks";

export type Theme = "light" | "dark";

type Colour = readonly [number, number, number];

/** From no similarity to the same text: the background's grey to ember. */
const SCALES: Record<Theme, readonly Colour[]> = {
  light: [[250, 248, 245], [253, 224, 190], [249, 164, 96], [219, 94, 28], [140, 45, 12], [80, 24, 8]],
  dark: [[33, 31, 30], [78, 40, 22], [143, 62, 20], [215, 104, 32], [250, 170, 92], [255, 229, 196]],
};

/** Up to eight categories that people with colour blindness can tell apart (after Okabe and Ito), and grey. */
const CATEGORIES: Record<Theme, readonly string[]> = {
  light: ["#0072b2", "#d55e00", "#009e73", "#b0478c", "#8a6d00", "#3aa0d8", "#7a4fb0", "#8c3b2a", "#5b6470", "#1d7a5f"],
  dark: ["#5aaee6", "#f08c3c", "#3cc79a", "#e08cc0", "#e6c84a", "#9cd5f5", "#b497e6", "#e0907e", "#a3acb8", "#7fdcc0"],
};

export const MOST_CATEGORIES = CATEGORIES.light.length;

/** Return the colour of a value in [0, 1]. */
export function shade(theme: Theme, value: number): Colour {
  const scale = SCALES[theme];
  const at = Math.min(Math.max(value, 0), 1) * (scale.length - 1);
  const low = Math.min(Math.floor(at), scale.length - 2);
  const part = at - low;
  const [from, to] = [scale[low]!, scale[low + 1]!];
  return [0, 1, 2].map((i) => Math.round(from[i]! + (to[i]! - from[i]!) * part)) as unknown as Colour;
}

export function css([red, green, blue]: Colour): string {
  return `rgb(${red} ${green} ${blue})`;
}

/** Return black or white, whichever is easier to read on a colour. */
export function inkOn([red, green, blue]: Colour): string {
  const linear = (value: number) => (value / 255) ** 2.2;
  return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue) > 0.24 ? "#1c1917" : "#fff";
}

export function category(theme: Theme, index: number): string {
  return CATEGORIES[theme][index % MOST_CATEGORIES]!;
}

/** The theme in use: the one that the switch chose, or the system's. */
export function currentTheme(): Theme {
  const chosen = document.documentElement.dataset["theme"];
  if (chosen === "light" || chosen === "dark") return chosen;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

/** The theme in use; the component is drawn again when it changes. */
export function useTheme(): Theme {
  const [theme, setTheme] = useState(currentTheme);
  useEffect(() => {
    const update = () => setTheme(currentTheme());
    const query = matchMedia("(prefers-color-scheme: dark)");
    const observer = new MutationObserver(update);
    query.addEventListener("change", update);
    observer.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    return () => {
      query.removeEventListener("change", update);
      observer.disconnect();
    };
  }, []);
  return theme;
}
