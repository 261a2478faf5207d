"""The arithmetic of `make bench`, and what it reads from a server's log. Nothing here measures."""

from __future__ import annotations

import pytest

from bench.figures import Row, Span, covered, ratios, spread
from bench.on_postgresql import SESSIONS, filling, shares, table_names
from bench.statements import parsed, saying
from bench.tables import cells, markdown


def test_what_overlaps_counts_once() -> None:
    assert covered([Span(5, 6), Span(0, 2), Span(1, 3), Span(1, 2)]) == 4
    assert covered([]) == 0


def test_a_span_is_cut_to_its_window() -> None:
    assert Span(0, 10).within(Span(4, 6)) == Span(4, 6)
    assert Span(0, 1).within(Span(4, 6)).seconds == 0
    assert Span(8, 9).within(Span(4, 6)).seconds == 0


def test_the_median_stands_with_least_and_most() -> None:
    told = spread([9.0, 1.0, 2.0])
    assert (told.median, told.least, told.most) == (2.0, 1.0, 9.0)
    with pytest.raises(ValueError, match="nothing was measured"):
        spread([])


def test_a_ratio_is_of_one_round_and_not_of_medians() -> None:
    """A round that was slow for both sides is a fair round."""
    assert ratios([1.0, 20.0, 3.0], [2.0, 10.0, 3.0]).median == 1.0
    with pytest.raises(ValueError, match="longer"):
        ratios([1.0], [1.0, 2.0])


def test_a_row_says_whether_it_holds() -> None:
    assert cells(Row("outage", spread([1.0, 1.2, 1.1]), 1.1, "×")) == (
        "outage",
        "1.10 ×",
        "1.00 … 1.20",
        "1.10 ×",
        "holds",
    )
    assert cells(Row("outage", spread([1.2]), 1.1, "×"))[-1] == "MISSED"
    assert cells(Row("peak", spread([1234.4]), None, "MB")) == ("peak", "1,234 MB", "1,234 … 1,234", "", "")
    assert "| outage | 1.20 × | 1.20 … 1.20 | 1.10 × | MISSED |" in markdown(
        "t", [Row("outage", spread([1.2]), 1.1, "×")]
    )


def test_statements_are_read_with_their_duration_and_only_ours() -> None:
    log = """\
100.500 [dbmaint:1:1] LOG:  duration: 500.000 ms  statement: SELECT count(*),
\t   sum(hashtextextended(1))
100.550 [dbmaint:1:1:switch] LOG:  duration: 90000.000 ms  statement: DO $$ wait $$
100.600 [vacuumdb] LOG:  duration: 90.000 ms  statement: VACUUM (FULL) orders
100.700 [dbmaint:1:1] ERROR:  canceling statement
100.700 [dbmaint:1:1] STATEMENT:  SELECT 2
101.000 [dbmaint:1:1] LOG:  duration: 250.000 ms  statement: VACUUM x""".splitlines()
    first, second = parsed(log, SESSIONS)
    assert first.text == "SELECT count(*), sum(hashtextextended(1))"
    assert (first.span, second.span) == (Span(100.0, 100.5), Span(100.75, 101.0))
    assert covered(saying([first, second], "^VACUUM", Span(100.8, 200.0))) == pytest.approx(0.2)


def test_the_tables_of_the_measured_database_hold_all_rows_and_one_in_five_is_bloated() -> None:
    assert sum(shares()) == pytest.approx(1.0)
    assert sorted(shares(), reverse=True) == shares()
    assert min(shares()) > 0
    statements = list(filling(1000))
    assert sum(s.startswith("DELETE") for s in statements) * 5 == len(table_names())
