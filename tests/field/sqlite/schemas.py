"""Databases as applications keep them, small: definitions of our own after what phones, browsers and servers ship."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass

Fill = Callable[[sqlite3.Connection, random.Random, int], None]
WORDS = ("alpha", "bravo", "注文", "été", "delta", "echo", "foxtrot", "größe", "hotel", "Ж", "kilo", "lima", "😀")


@dataclass(frozen=True)
class Schema:
    """`fill` puts about so many kilobytes in."""

    name: str
    statements: tuple[str, ...]
    fill: Fill


def text(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(words))


def _many(connection: sqlite3.Connection, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
    connection.executemany(statement, rows)


def _music(connection: sqlite3.Connection, rng: random.Random, kb: int) -> None:
    _many(connection, "INSERT INTO artist VALUES (?, ?)", ((i, f"{text(rng, 2)} {i}") for i in range(1, kb)))
    rows = ((i, rng.randrange(1, kb), text(rng, 3), rng.randrange(9**6)) for i in range(1, kb * 8))
    _many(connection, "INSERT INTO track VALUES (?, ?, ?, ?)", rows)


def _browser(connection: sqlite3.Connection, rng: random.Random, kb: int) -> None:
    rows = ((f"https://{rng.choice(WORDS)}.example/{i}", text(rng, 4), rng.random() * 9e5) for i in range(kb * 4))
    _many(connection, "INSERT INTO place (url, title, frecency) VALUES (?, ?, ?)", rows)
    visits = ((rng.randrange(1, kb * 4), rng.randrange(10**15)) for _ in range(kb * 6))
    _many(connection, "INSERT INTO visit (place, at) VALUES (?, ?)", visits)
    connection.execute("DELETE FROM visit WHERE id % 7 = 0")


def _tiles(connection: sqlite3.Connection, rng: random.Random, kb: int) -> None:
    rows = ((z, x, x * z, rng.randbytes(rng.randrange(10, 3000))) for z in range(4) for x in range(kb // 5))
    _many(connection, "INSERT INTO tiles VALUES (?, ?, ?, ?)", rows)
    _many(connection, "INSERT INTO metadata VALUES (?, ?)", ((f"name {i}", text(rng, 3)) for i in range(20)))


def _settings(connection: sqlite3.Connection, rng: random.Random, kb: int) -> None:
    rows = ((f"{rng.choice(WORDS)}.{i}", text(rng, 5)) for i in range(kb * 6))
    _many(connection, "INSERT INTO setting VALUES (?, ?)", rows)
    scores = ((i % 40, f"k{i}", rng.random(), None if i % 3 else text(rng, 2)) for i in range(kb * 4))
    _many(connection, "INSERT INTO score VALUES (?, ?, ?, ?)", scores)


def _notes(connection: sqlite3.Connection, rng: random.Random, kb: int) -> None:
    rows = ((text(rng, 3), text(rng, rng.choice((5, 20, 400)))) for _ in range(kb // 2))
    _many(connection, "INSERT INTO note (title, body) VALUES (?, ?)", rows)
    _many(connection, "INSERT INTO tag VALUES (?, ?)", ((i, rng.choice(WORDS)) for i in range(kb * 3)))


def _ledger(connection: sqlite3.Connection, rng: random.Random, kb: int) -> None:
    rows = ((rng.randrange(-(10**9), 10**9) / 100, text(rng, 2), bytes([i % 251])) for i in range(kb * 7))
    _many(connection, "INSERT INTO entry (amount, memo, raw) VALUES (?, ?, ?)", rows)
    _many(connection, "INSERT INTO account (code, title) VALUES (?, ?)", ((f"{i:06}", text(rng, 2)) for i in range(kb)))


def _logs(connection: sqlite3.Connection, rng: random.Random, kb: int) -> None:
    for name in ("log", "log_old"):
        rows = ((rng.randrange(10**9), rng.choice(("info", "warn")), text(rng, 4)) for _ in range(kb * 4))
        _many(connection, f"INSERT INTO {name} VALUES (?, ?, ?)", rows)


def _search(connection: sqlite3.Connection, rng: random.Random, kb: int) -> None:
    _many(
        connection, "INSERT INTO mail (subject, body) VALUES (?, ?)", ((text(rng, 3), text(rng, 30)) for _ in range(kb))
    )
    rows = ((i, i % 90, i % 90 + rng.random()) for i in range(kb * 3))
    _many(connection, "INSERT INTO area VALUES (?, ?, ?)", rows)


def _invalid(connection: sqlite3.Connection, rng: random.Random, kb: int) -> None:
    rows = ((rng.choice((b"caf\xe9", b"\xff", b"plain", b"\xed\xa0\x80")), text(rng, 5)) for _ in range(kb * 8))
    _many(connection, "INSERT INTO import (name, note) VALUES (CAST(? AS TEXT), ?)", rows)


TRACK = (
    "CREATE TABLE track (id INTEGER PRIMARY KEY, artist INTEGER NOT NULL REFERENCES artist, title TEXT,"
    " ms INTEGER NOT NULL CHECK (ms >= 0))"
)
SCORE = (
    "CREATE TABLE score (player INTEGER, game TEXT, points REAL, note TEXT, PRIMARY KEY (game, player)) WITHOUT ROWID"
)
MAIL_IN = (
    "CREATE TRIGGER mail_in AFTER INSERT ON mail BEGIN"
    " INSERT INTO found (rowid, subject, body) VALUES (new.id, new.subject, new.body); END"
)
SCHEMAS = (
    Schema(
        "music",
        (
            "CREATE TABLE artist (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
            TRACK,
            "CREATE INDEX track_artist ON track (artist)",
            "CREATE INDEX track_title ON track (title COLLATE NOCASE, ms DESC)",
            "CREATE VIEW long_track AS SELECT * FROM track WHERE ms > 300000",
        ),
        _music,
    ),
    Schema(
        "browser",
        (
            "CREATE TABLE place (id INTEGER PRIMARY KEY AUTOINCREMENT, url TEXT UNIQUE, title TEXT, frecency REAL)",
            "CREATE TABLE visit (id INTEGER PRIMARY KEY AUTOINCREMENT, place INTEGER REFERENCES place, at INTEGER)",
            "CREATE INDEX visit_at ON visit (at)",
            "CREATE INDEX often ON place (frecency) WHERE frecency > 1000",
        ),
        _browser,
    ),
    Schema(
        "tiles",
        (
            "CREATE TABLE tiles (zoom INTEGER, column INTEGER, row INTEGER, data BLOB)",
            "CREATE TABLE metadata (name TEXT, value TEXT)",
            "CREATE UNIQUE INDEX tile ON tiles (zoom, column, row)",
        ),
        _tiles,
    ),
    Schema(
        "settings",
        (
            "CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID",
            SCORE,
            "CREATE INDEX score_points ON score (points)",
        ),
        _settings,
    ),
    Schema(
        "notes",
        (
            "CREATE TABLE note (id INTEGER PRIMARY KEY, title TEXT, body TEXT, size INTEGER AS (length(body)) STORED)",
            "CREATE TABLE tag (note INTEGER, word TEXT)",
            "CREATE INDEX tag_note ON tag (note, word)",
            "CREATE TRIGGER note_gone AFTER DELETE ON note BEGIN DELETE FROM tag WHERE note = old.id; END",
        ),
        _notes,
    ),
    Schema(
        "ledger",
        (
            "CREATE TABLE entry (id INTEGER PRIMARY KEY, amount REAL, memo TEXT, raw BLOB) STRICT",
            "CREATE TABLE account (code TEXT NOT NULL, title TEXT, UNIQUE (code, title))",
            "CREATE INDEX entry_cents ON entry (CAST(amount * 100 AS INTEGER))",
            "CREATE INDEX entry_memo ON entry (memo, amount)",
        ),
        _ledger,
    ),
    Schema(
        "logs",
        ("CREATE TABLE log (at INTEGER, level TEXT, line TEXT)", "CREATE TABLE log_old (at, level, line)"),
        _logs,
    ),
    Schema(
        "search",
        (
            "CREATE TABLE mail (id INTEGER PRIMARY KEY, subject TEXT, body TEXT)",
            "CREATE VIRTUAL TABLE found USING fts5 (subject, body, content = 'mail', content_rowid = 'id')",
            MAIL_IN,
            "CREATE VIRTUAL TABLE area USING rtree (id, low, high)",
        ),
        _search,
    ),
    Schema(
        "invalid", ("CREATE TABLE import (name TEXT, note TEXT)", "CREATE INDEX import_note ON import (note)"), _invalid
    ),
)
