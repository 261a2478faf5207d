"""What failing disks, bad copies and programs that write into a file do to it."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Damage:
    """The damaged file, and the pages that differ. `moves`: bytes of rows are only elsewhere, none is changed."""

    content: bytearray
    page_size: int
    rng: random.Random
    moves: bool = False

    @property
    def count(self) -> int:
        return len(self.content) // self.page_size

    def page(self) -> int:
        """One of them; the first, which is the most interesting, more often than the others."""
        return 1 if self.rng.random() < 0.08 else self.rng.randrange(1, self.count + 1)

    def start(self, page: int) -> int:
        return (page - 1) * self.page_size

    def write(self, offset: int, data: bytes) -> None:
        self.content[offset : offset + len(data)] = data[: max(0, len(self.content) - offset)]

    def inner(self) -> list[int]:
        """Inner pages of trees."""
        kinds = {n: self.content[self.start(n) + (100 if n == 1 else 0)] for n in range(1, self.count + 1)}
        return [n for n, kind in kinds.items() if kind in (2, 5)]


def zeroed(damage: Damage) -> None:
    for _ in range(damage.rng.choice((1, 1, 2, 5))):
        damage.write(damage.start(damage.page()), bytes(damage.page_size))


def swapped(damage: Damage) -> None:
    damage.moves = True
    for _ in range(damage.rng.choice((1, 1, 2))):
        one, other = (damage.start(damage.rng.randrange(2, damage.count + 1)) for _ in range(2))
        first, second = (bytes(damage.content[at : at + damage.page_size]) for at in (one, other))
        damage.write(one, second)
        damage.write(other, first)


def overwritten(damage: Damage) -> None:
    start = damage.start(damage.page())
    length = damage.rng.choice((8, 64, damage.page_size))
    offset = damage.rng.choice((0, damage.rng.randrange(damage.page_size)))
    damage.write(start + offset, damage.rng.choice((damage.rng.randbytes(length), b"\xff" * length, b"A" * length)))


def cut(damage: Damage) -> None:
    keep, step = int(damage.rng.uniform(0.3, 1) * len(damage.content)), damage.rng.choice((1, 512, damage.page_size))
    del damage.content[max(damage.page_size, keep // step * step) :]


def flipped(damage: Damage) -> None:
    for _ in range(damage.rng.choice((1, 1, 3, 20))):
        start = damage.start(damage.page())
        offset = start + min(int(damage.rng.expovariate(8 / damage.page_size)), damage.page_size - 1)
        damage.content[min(offset, len(damage.content) - 1)] ^= 1 << damage.rng.randrange(8)


def pointers(damage: Damage) -> None:
    """A child of an inner page, the root of the list of free pages or an overflow page points elsewhere."""
    damage.moves = True
    target = damage.rng.choice((0, 1, damage.rng.randrange(1, damage.count + 1), damage.count + 7, 0xFFFFFFFF))
    inner = [page for page in damage.inner() if page != 1 or damage.content[100] == 5]
    if not inner or damage.rng.random() < 0.15:
        damage.write(32, struct.pack(">II", target, damage.rng.randrange(damage.count)))
        return
    page = damage.rng.choice(inner)
    start = damage.start(page)
    head = start + (100 if page == 1 else 0)
    cells = struct.unpack_from(">H", damage.content, head + 3)[0]
    place = damage.rng.randrange(cells + 1)
    if place == cells:
        damage.write(head + 8, struct.pack(">I", target))
    else:
        damage.write(
            start + struct.unpack_from(">H", damage.content, head + 12 + 2 * place)[0], struct.pack(">I", target)
        )


DAMAGES: dict[str, Callable[[Damage], None]] = {
    "a page zeroed": zeroed,
    "pages swapped": swapped,
    "a page overwritten": overwritten,
    "the file cut": cut,
    "bits flipped": flipped,
    "pointers wrong": pointers,
}
