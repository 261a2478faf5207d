"""Follows the trees of a file from their roots, as far as their inner pages can be read."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from .pages import INNER_INDEX, INNER_TABLE, LEAF_INDEX, LEAF_TABLE, PageFile, Unreadable


@dataclass(frozen=True)
class Leaf:
    """A page with records, and between which rowids they must lie: above `low`, up to `high`; None is unbounded."""

    page: int
    low: int | None
    high: int | None

    def holds(self, rowid: int) -> bool:
        return (self.low is None or rowid > self.low) and (self.high is None or rowid <= self.high)


@dataclass
class Tree:
    """`leaves` are in order of their keys; inner pages of an index hold records and are among them."""

    leaves: list[Leaf] = field(default_factory=list)
    inner: list[int] = field(default_factory=list)
    gaps: list[Leaf] = field(default_factory=list)
    """What leads to pages that are none of such a tree, or not there."""
    root: int = 0

    @property
    def bad(self) -> list[int]:
        return [gap.page for gap in self.gaps]

    @property
    def pages(self) -> set[int]:
        return {leaf.page for leaf in self.leaves} | set(self.inner)


def walk(source: PageFile, root: int, *, of_table: bool) -> Tree:
    """Return what can be reached. Each page once, so that pointers in a circle come to an end."""
    inner, leaf = (INNER_TABLE, LEAF_TABLE) if of_table else (INNER_INDEX, LEAF_INDEX)
    tree, seen = Tree(root=root), set[int]()
    waiting: list[Leaf] = [Leaf(root, None, None)]
    while waiting:
        at = waiting.pop()
        if at.page in seen:
            tree.gaps.append(at)
            continue
        seen.add(at.page)
        try:
            kind = source.kind(at.page)
            if kind == inner:
                below, strange = _alike(source, _below(source, at), inner, leaf)
                waiting += reversed(below)
                tree.gaps += strange
                tree.inner.append(at.page)
            if kind == leaf or (kind == inner and not of_table):
                tree.leaves.append(at)
            elif kind != inner:
                tree.gaps.append(at)
        except (Unreadable, IndexError, struct.error):
            tree.gaps.append(at)
    return tree


def _alike(source: PageFile, below: list[Leaf], inner: int, leaf: int) -> tuple[list[Leaf], list[Leaf]]:
    """Return the children without those that lie at another depth than most: a tree has all its leaves at one depth."""
    kinds = [_kind(source, child.page) for child in below]
    inners, leaves = kinds.count(inner), kinds.count(leaf)
    strange = inner if inners < leaves else leaf if leaves < inners else None
    kept = [child for child, kind in zip(below, kinds, strict=True) if kind != strange]
    return kept, [child for child, kind in zip(below, kinds, strict=True) if kind == strange]


def _kind(source: PageFile, page: int) -> int:
    """0 where there is no such page."""
    try:
        return source.kind(page)
    except (Unreadable, IndexError, struct.error):
        return 0


def _below(source: PageFile, at: Leaf) -> list[Leaf]:
    found, low = [], at.low
    children = source.children(at.page)
    for number, (page, key) in enumerate(children):
        high = at.high if number == len(children) - 1 else key
        found.append(Leaf(page, low, high))
        low = key if key is not None else low
    return found
