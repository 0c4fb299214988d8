"""Draw SVG pictures for the documentation: shapes and texts with classes, and one style sheet for light and dark.

A picture has its own background, so it can be read on a page of either theme. Widths are those of a phone; a browser
enlarges the picture on wider screens. Nothing is loaded from elsewhere, and the same calls give the same bytes.
"""

from html import escape

WIDTH = 480
"""Width of every picture in its own units. Texts of 14 units stay legible at the width of a phone."""
STYLE = """
svg { color-scheme: light dark; font: 14px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif }
.ground { fill: #ffffff }
text { fill: #1f2933 }
.soft { fill: #52606d; font-size: 12.5px }
.bold { font-weight: 600 }
.end { text-anchor: end }
.middle { text-anchor: middle }
.box { fill: #f0f3f7; stroke: #9aa8b8 }
.query { fill: #dbe9ff; stroke: #2f6fdb }
.bulk { fill: #fdebd3; stroke: #b86e12 }
.line { fill: none; stroke: #52606d; stroke-width: 1.5 }
.head { fill: #52606d }
.grid { stroke: #dde3ea }
.first { stroke: #2f6fdb; fill: none; stroke-width: 2.5 }
.second { stroke: #c2570c; fill: none; stroke-width: 2.5 }
.first-fill { fill: #2f6fdb }
.second-fill { fill: #c2570c }
.other-fill { fill: #8795a6 }
.dashed { stroke-dasharray: 6 4 }
@media (prefers-color-scheme: dark) {
  .ground { fill: #16191d }
  text { fill: #e6e9ed }
  .soft { fill: #a9b4c0 }
  .box { fill: #262b31; stroke: #5c6976 }
  .query { fill: #1b3556; stroke: #6ea8fe }
  .bulk { fill: #46311a; stroke: #e0a458 }
  .line { stroke: #a9b4c0 }
  .head { fill: #a9b4c0 }
  .grid { stroke: #343b43 }
  .first { stroke: #6ea8fe }
  .second { stroke: #f29a52 }
  .first-fill { fill: #6ea8fe }
  .second-fill { fill: #f29a52 }
  .other-fill { fill: #76838f }
}
"""


class Picture:
    """A picture that is drawn from top to bottom.

    Args:
        title: What the picture shows, in a sentence; screen readers that enter the file read it.
        height: Height in the units of `WIDTH`.
    """

    def __init__(self, title: str, height: float) -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {number(height)}" '
            f'width="{WIDTH * 1.35:.0f}" height="{height * 1.35:.0f}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="ground" width="{WIDTH}" height="{number(height)}" rx="8"/>',
        ]

    def text(self, x: float, y: float, words: str, kind: str = "") -> None:
        """Write a line of text at its baseline; `kind` has classes of the style sheet."""
        self._parts.append(f'<text x="{number(x)}" y="{number(y)}"{_class(kind)}>{escape(words, quote=False)}</text>')

    def box(self, x: float, y: float, width: float, height: float, kind: str, *lines: str) -> None:
        """Draw a rounded box with centred lines; the first one is bold, the others are soft."""
        self.bar(x, y, width, height, kind, radius=6)
        top = y + height / 2 - 9 * (len(lines) - 1) + 5
        for row, words in enumerate(lines):
            self.text(x + width / 2, top + 18 * row, words, "bold middle" if row == 0 else "soft middle")

    def bar(self, x: float, y: float, width: float, height: float, kind: str, radius: float = 0) -> None:
        """Draw a rectangle."""
        corner = f' rx="{number(radius)}"' if radius else ""
        self._parts.append(
            f'<rect x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"{corner}'
            f"{_class(kind)}/>"
        )

    def path(self, points: list[tuple[float, float]], kind: str = "line") -> None:
        """Draw straight lines through points."""
        steps = " ".join(f"{'L' if index else 'M'}{number(x)} {number(y)}" for index, (x, y) in enumerate(points))
        self._parts.append(f'<path d="{steps}"{_class(kind)}/>')

    def arrow(self, *points: tuple[float, float]) -> None:
        """Draw lines through points with a head at the last one; the last step is horizontal or vertical."""
        (x0, y0), (x, y) = points[-2:]
        dx, dy = (x > x0) - (x < x0), (y > y0) - (y < y0)
        self.path([*points[:-1], (x - 6 * dx, y - 6 * dy)])
        sides = (x - 8 * dx - 4.5 * dy, y - 8 * dy - 4.5 * dx), (x - 8 * dx + 4.5 * dy, y - 8 * dy + 4.5 * dx)
        (ax, ay), (bx, by) = sides
        self._parts.append(
            f'<path class="head" d="M{number(x)} {number(y)} L{number(ax)} {number(ay)} L{number(bx)} {number(by)} Z"/>'
        )

    def dot(self, x: float, y: float, kind: str) -> None:
        """Draw a point of a plot."""
        self._parts.append(f'<circle cx="{number(x)}" cy="{number(y)}" r="3"{_class(kind)}/>')

    def __str__(self) -> str:
        """The SVG file."""
        return "\n".join([*self._parts, "</svg>", ""])


def number(value: float) -> str:
    """Write a coordinate with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
