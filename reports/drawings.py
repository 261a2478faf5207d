"""Charts of the PDF as SVG: vectors that print sharply, with a title for readers that cannot see them.

Nothing but strings in and strings out. Lengths are in CSS pixels on a sheet 680 wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from .sheets import width

WIDE = 680.0
NAMES = 236.0
"""Where the bars begin: names stand left of it."""
FIGURES = 124.0
"""Room for the numbers right of the bars."""
BEFORE, AFTER, WORSE, OUTAGE, LINE, INK = "#b4bcc8", "#2f6f8f", "#b4442f", "#f6e3dc", "#d5dae1", "#1d2733"
FONT = "'DejaVu Sans', IPAexGothic, IPAPGothic, 'Noto Sans CJK JP', sans-serif"
LETTERS = 44
"""Columns of text that fit left of the bars; the tables below give names in full."""
OVER = 1.25
"""A bar longer than this share of its place is cut; its number tells the rest."""


@dataclass(frozen=True)
class Pair:
    """Something before and after, with the words for both."""

    name: str
    before: float
    after: float
    words: str
    bad: bool = False


@dataclass(frozen=True)
class Bar:
    """One number with its words."""

    name: str
    number: float
    words: str
    bad: bool = False


@dataclass(frozen=True)
class Span:
    """A step of the timeline; `end` None while it lasted or if it was broken off."""

    name: str
    begin: datetime
    end: datetime | None
    words: str
    bad: bool = False
    out: tuple[datetime, datetime] | None = None
    """The part of it in which service was out."""


def relative_bars(title: str, pairs: Sequence[Pair]) -> SafeString:
    """Each pair by its own scale: before is 100 %, so that fast and slow queries stand side by side."""
    return _bars(title, [(p, 1 / OVER, p.after / p.before / OVER if p.before else 0.0) for p in pairs])


def absolute_bars(title: str, pairs: Sequence[Pair]) -> SafeString:
    """All pairs by one scale: the longest bar is the largest number."""
    most = max((max(p.before, p.after) for p in pairs), default=0.0) or 1.0
    return _bars(title, [(p, p.before / most, p.after / most) for p in pairs])


def bars(title: str, rows: Sequence[Bar]) -> SafeString:
    """One below the other by one scale."""
    most, room = max((b.number for b in rows), default=0.0) or 1.0, WIDE - NAMES / 2 - FIGURES - 20
    parts = [
        format_html(
            "{}{}{}",
            _text(0, 10 + n * 17.0, bar.name, 9),
            _box(NAMES / 2, 2 + n * 17.0, bar.number / most * room, 10, WORSE if bar.bad else AFTER),
            _text(WIDE, 10 + n * 17.0, bar.words, 9, "end"),
        )
        for n, bar in enumerate(rows)
    ]
    return _sheet(title, 4 + len(rows) * 17.0, *parts) if rows else SafeString("")


def _bars(title: str, pairs: Sequence[tuple[Pair, float, float]]) -> SafeString:
    step, room = 25.0, WIDE - NAMES - FIGURES
    parts = [
        _bar_pair(pair, 18 + i * step, before * room, min(after, 1.0) * room)
        for i, (pair, before, after) in enumerate(pairs)
    ]
    return _sheet(title, 22 + len(pairs) * step, _legend(), *parts)


def _legend() -> SafeString:
    return format_html(
        "{}{}{}{}",
        _box(NAMES, 2, 9, 7, BEFORE),
        _text(NAMES + 13, 9, _("before"), 8),
        _box(NAMES + 70, 2, 9, 7, AFTER),
        _text(NAMES + 83, 9, _("after"), 8),
    )


def _bar_pair(pair: Pair, top: float, before: float, after: float) -> SafeString:
    return format_html(
        "{}{}{}{}",
        _text(0, top + 13, shortened(pair.name), 9),
        _box(NAMES, top + 1, before, 8, BEFORE),
        _box(NAMES, top + 10, after, 8, WORSE if pair.bad else AFTER),
        _text(WIDE, top + 13, pair.words, 9, "end"),
    )


def timeline(title: str, spans: Sequence[Span], outage: tuple[datetime, datetime] | None, words: str) -> SafeString:
    """Steps one below the other over one axis of time; the outage is the shaded band behind them."""
    if not spans:
        return SafeString("")
    begin = min(s.begin for s in spans)
    end = max([s.end or s.begin for s in spans] + ([outage[1]] if outage else []))
    length = max((end - begin).total_seconds(), 0.001)
    step, room = 15.0, WIDE - NAMES - FIGURES + 40
    tall = 32 + len(spans) * step

    def x(at: datetime) -> float:
        return NAMES - 80 + min(max((at - begin).total_seconds() / length, 0.0), 1.0) * (room + 40)

    parts = [_band(x(outage[0]), x(outage[1]), tall, words)] if outage else []
    parts += [_axis(x(begin), x(end), tall, begin, end)]
    for i, span in enumerate(spans):
        parts.append(_span(span, 30 + i * step, x(span.begin), x(span.end or span.begin)))
        if span.out:
            parts.append(_box(x(span.out[0]), 31 + i * step, max(x(span.out[1]) - x(span.out[0]), 1.5), 9, WORSE))
    return _sheet(title, tall + 4, *parts)


def _band(left: float, right: float, tall: float, words: str) -> SafeString:
    anchor = "end" if left > WIDE / 2 else "start"
    return format_html(
        "{}{}",
        _box(left, 14, max(right - left, 1.5), tall - 14, OUTAGE),
        _text(right if anchor == "end" else left, 25, words, 8, anchor, WORSE),
    )


def _axis(left: float, right: float, tall: float, begin: datetime, end: datetime) -> SafeString:
    day = timedelta(days=1)
    form = "%H:%M:%S" if end - begin < day else "%m-%d %H:%M"
    return format_html(
        '{}{}<path d="M{} 14H{}" stroke="{}" stroke-width="0.8" fill="none"/>',
        _text(left, 10, f"{begin:{form}}", 8),
        _text(right, 10, f"{end:{form}}", 8, "end"),
        _px(left),
        _px(right),
        LINE,
    )


def _span(span: Span, top: float, left: float, right: float) -> SafeString:
    return format_html(
        "{}{}{}",
        _text(0, top + 8.5, span.name, 9),
        _box(left, top + 1, max(right - left, 1.5), 9, WORSE if span.bad else AFTER),
        _text(WIDE, top + 8.5, span.words, 9, "end"),
    )


def shortened(name: str, letters: int = LETTERS) -> str:
    """One line that fits left of a bar."""
    name = " ".join(name.split())
    if width(name) <= letters:
        return name
    while width(name) >= letters:
        name = name[:-1]
    return name + "…"


def _px(length: float) -> str:
    return f"{length:.1f}"


def _box(x: float, y: float, wide: float, tall: float, colour: str) -> SafeString:
    return format_html(
        '<rect x="{}" y="{}" width="{}" height="{}" fill="{}"/>', _px(x), _px(y), _px(wide), _px(tall), colour
    )


def _text(x: float, y: float, words: str, tall: float, anchor: str = "start", colour: str = INK) -> SafeString:
    return format_html(
        '<text x="{}" y="{}" font-size="{}" text-anchor="{}" fill="{}">{}</text>',
        _px(x),
        _px(y),
        tall,
        anchor,
        colour,
        words,
    )


def _sheet(title: str, tall: float, *parts: SafeString) -> SafeString:
    return format_html(
        '<svg xmlns="http://www.w3.org/2000/svg" width="{}" height="{}" viewBox="0 0 {} {}" '
        'font-family="{}"><title>{}</title>{}</svg>',
        *(_px(WIDE), _px(tall)) * 2,
        FONT,
        title,
        format_html_join("", "{}", ((part,) for part in parts)),
    )
