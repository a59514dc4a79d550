"""The plot: how long each peer takes, as a multiple of what Sfumato takes, for every measure that has peers. An SVG, written here."""

from collections.abc import Mapping
from dataclasses import dataclass
from xml.sax.saxutils import escape

from bench.comparing import ratio
from bench.contenders import CONTENDERS
from bench.measures import MEASURES
from bench.results import Entry
from bench.tables import SHOWN

WIDTH, LEFT, RIGHT = 860, 240, 70
BAR, GAP, HEAD = 15, 5, 26
COLOURS = {
    "diffusers": "#4477aa", "diffusers-compiled": "#66ccee", "openvino": "#228833", "openvino-int8": "#ccbb44",
    "sdcpp": "#aa3377", "torch": "#888888",
}  # fmt: skip
"""Of Paul Tol's scheme for those who don't see all colours."""
STYLE = "text{font:12px sans-serif;fill:#222}.head{font-weight:bold}.small{font-size:11px;fill:#555}"


@dataclass(frozen=True, slots=True)
class Length:
    """A peer's seconds by ours, in a measure."""

    title: str
    peer: str
    times: float


def lengths(entries: Mapping[str, Entry]) -> list[Length]:
    """What is drawn, in the order of the measures."""
    found: list[Length] = []
    for measure in MEASURES:
        for pair in measure.pairs:
            if pair.peer is None:
                continue
            ours = ratio(entries.get(measure.name), pair.ours, pair.peer, SHOWN.get(measure.name, "seconds"))
            if ours is not None:
                title = measure.title if pair.ours == "sfumato" else f"{measure.title}, int8"
                found.append(Length(title, pair.peer, 1 / ours.median))
    return found


def plot(entries: Mapping[str, Entry]) -> str | None:
    """The SVG's text; None where there is nothing to draw."""
    drawn = lengths(entries)
    if not drawn:
        return None
    most = max(1.0, *(one.times for one in drawn))
    scale = (WIDTH - LEFT - RIGHT) / most
    body: list[str] = []
    y, title = 34, ""
    for one in drawn:
        if one.title != title:
            title = one.title
            y += HEAD - BAR if body else 0
            body.append(f'<text class="head" x="12" y="{y + 11}">{escape(title)}</text>')
            y += BAR + GAP
        body += [
            f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end">{escape(CONTENDERS[one.peer].title)}</text>',
            f'<rect x="{LEFT}" y="{y}" width="{one.times * scale:.1f}" height="{BAR}" fill="{COLOURS[one.peer]}"/>',
            f'<text x="{LEFT + one.times * scale + 6:.1f}" y="{y + 12}">{one.times:.2f}</text>',
        ]
        y += BAR + GAP
    line = LEFT + scale
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 12}" viewBox="0 0 {WIDTH} {y + 12}">',
            f'<style>{STYLE}</style><rect width="100%" height="100%" fill="#fff"/>',
            '<text class="small" x="12" y="18">Time of each peer by Sfumato\'s in the same runs; 1, the line, is as fast</text>',
            *body,
            f'<line x1="{line:.1f}" y1="28" x2="{line:.1f}" y2="{y + 4}" stroke="#222" stroke-dasharray="3 3"/>',
            "</svg>\n",
        ]
    )
