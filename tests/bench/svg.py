"""Line plots as SVG, drawn with nothing but text: the same numbers give the same file."""
from __future__ import annotations

import math
from dataclasses import dataclass, field

COLORS = ("#1f5fa8", "#c8501e", "#3b8a3e", "#7b4fa3", "#8a6d1a")
DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 4")
WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 80, 24, 48, 56


@dataclass
class Series:
    name: str
    points: list[tuple[float, float]]


@dataclass
class Plot:
    title: str
    x: str
    y: str
    series: list[Series] = field(default_factory=list)
    log_x: bool = True  # powers of two

    def add(self, name: str, points: list[tuple[float, float]]) -> None:
        if points:
            self.series.append(Series(name, points))


def _step(most: float) -> float:
    """A round distance of grid lines, four to eight of them up to `most`."""
    rough = most / 6
    power = 10 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough)


def _text(x: float, y: float, text: str, anchor: str = "middle", size: int = 13, extra: str = "") -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"{extra}>{text}</text>'


def draw(plot: Plot) -> str:
    xs = sorted({x for s in plot.series for x, _ in s.points})
    most = max((y for s in plot.series for _, y in s.points), default=1) or 1
    step = _step(most)
    top = math.ceil(most / step) * step
    scale = (lambda v: math.log2(v)) if plot.log_x else (lambda v: v)
    first, last = scale(xs[0]), scale(xs[-1])

    def px(x: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * ((scale(x) - first) / (last - first) if last > first else 0.5)

    def py(y: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y / top

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
           'font-family="sans-serif" fill="#222">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>', _text(WIDTH / 2, 24, plot.title, size=16)]
    for i in range(round(top / step) + 1):
        y = i * step
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{py(y):.1f}" y2="{py(y):.1f}" stroke="#ddd"/>')
        out.append(_text(LEFT - 8, py(y) + 4, f"{y:,.0f}" if step >= 1 else f"{y:g}", "end", 12))
    labels_end = -math.inf
    for x in xs:
        if px(x) - labels_end >= 14:
            out.append(_text(px(x), HEIGHT - BOTTOM + 18, f"{x:g}", size=12))
            labels_end = px(x)
        out.append(f'<line x1="{px(x):.1f}" x2="{px(x):.1f}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM + 4}" stroke="#222"/>')
    out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}" stroke="#222"/>')
    out.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, plot.x))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    out.append(_text(20, middle, plot.y, extra=f' transform="rotate(-90 20 {middle:.0f})"'))
    for n, s in enumerate(plot.series):
        color, dash = COLORS[n % len(COLORS)], DASHES[n % len(DASHES)]
        line = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in s.points)
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        out.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"{dashes}/>')
        out += [f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="3" fill="{color}"/>' for x, y in s.points]
        y = TOP + 8 + 18 * n
        out.append(f'<line x1="{LEFT + 12}" x2="{LEFT + 44}" y1="{y}" y2="{y}" stroke="{color}" stroke-width="2"{dashes}/>')
        out.append(_text(LEFT + 50, y + 4, s.name, "start", 12))
    return "\n".join([*out, "</svg>"]) + "\n"
