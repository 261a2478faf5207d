"""The PDF and the CSV of a run: complete, honest, the same for the same run, and made for bad ends too."""

from __future__ import annotations

import csv
import io
import json
import re
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.utils import translation
from pypdf import PdfReader

from maintenance.auditing import chain
from maintenance.engines.errors import Transient
from maintenance.engines.messages import Message, dump, load, msg
from maintenance.models import MaintenanceRun, Status
from maintenance.results.outcome import outcome
from maintenance.text import labels
from maintenance.text.render import render
from maintenance.workflow.steps import plural
from reports import drawings, management, paper, pdf, performance
from reports.drawings import Pair
from reports.sheets import Column, Sheet
from tests import records

pytestmark = [pytest.mark.django_db, pytest.mark.long]


def reader(run: MaintenanceRun) -> PdfReader:
    return PdfReader(io.BytesIO(pdf.render(run)))


def text_of(run: MaintenanceRun) -> str:
    """Without spaces, because a long word or number may go on in the next line."""
    return squeezed("".join(page.extract_text() for page in reader(run).pages))


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def more_than_once(number: int) -> str:
    """The first attempt and the first round are not worth a word."""
    return str(number) if number > 1 else ""


IN_WORDS: dict[str, Callable[[Any], str]] = {
    "seconds": labels.duration,
    "outage_seconds": labels.duration,
    "attempt": more_than_once,
    "round": more_than_once,
    "bytes": labels.size,
    "bytes_before": labels.size,
    "bytes_after": labels.size,
    "rows": labels.count,
    "rows_before": labels.count,
    "rows_after": labels.count,
    "pages": str,
    "before_ms": labels.milliseconds,
    "after_ms": labels.milliseconds,
    "spread": labels.share,
    "cost_before": labels.count,
    "cost_after": labels.count,
}
"""How the report says each number of the outcome. A number without a line here fails the test."""
RATIOS = {f"{name}{end}" for name in ("ratio", "benchmark_ratio") for end in ("", "_low", "_high")}
"""Told in the words of `told` and `benchmark_told`."""
TEXTS = {
    "told",
    "benchmark_told",
    "evidence",
    "sha256",
    "path",
    "query",
    "cost_unit",
    "table",
    "detail",
    "method",
    "black_box",
}


def told_in(found: Any, key: str = "") -> Iterator[str]:
    """Every number of the outcome, and what identifies it, as the report must say it."""
    if isinstance(found, dict):
        for name, value in found.items():
            yield from told_in(value, name)
    elif isinstance(found, list):
        for value in found:
            yield from told_in(value, key)
    elif key not in RATIOS and isinstance(found, int | float) and not isinstance(found, bool):
        yield IN_WORDS[key](found)
    elif isinstance(found, str) and key in TEXTS:
        yield found


@pytest.mark.parametrize(("databases", "tables"), [(("shop",), 4), (("shop", "crm"), 40)])
def test_the_report_holds_every_number_of_the_outcome(databases: tuple[str, ...], tables: int) -> None:
    run = records.finished_run(databases, tables)
    target = run.targets.order_by("pk")[0]
    records.add_step(target, "J", "resume", 20, 4.2, part="release 10 %", attempt=3, sentence="Released")
    loss = {"object": "public.orders", "rows": 1_012, "pages": [11, 4711], "detail": "two pages could not be read"}
    records.add_action(target, "public.orders", action="salvage", losses=[loss], round=2)
    text = text_of(run)
    told = list(told_in(outcome(run)))
    assert len(told) > 100
    assert [number for number in told if squeezed(number) not in text] == []


def test_the_report_says_who_asked_who_approved_and_why() -> None:
    text = text_of(records.finished_run())
    for words_ in ("first-dba", "second-dba", "Checkout times out since the night import; 決済が遅い"):
        assert squeezed(words_) in text


def test_the_report_says_who_began_without_approval_and_why() -> None:
    run = records.finished_run()
    run.approval.broken_glass = "nobody answered the phone"
    run.approval.save()
    text = text_of(run)
    assert squeezed("second-dba began without the approval it needs") in text
    assert squeezed("nobody answered the phone") in text


def test_a_sentence_inside_a_sentence_and_our_phrases_are_told_again_but_never_a_name() -> None:
    error = Transient("rewriting", "copying", msg("nothing"))
    needed = msg("{database} needs an operator: {error}", database="locking", error=error.sentence)
    assert needed == "locking needs an operator: Failed while rewriting copying: nothing"
    assert load(json.loads(json.dumps(dump(needed)))) == needed
    cancelled = msg("Cancelled by {who} during {step}.", who="a", step="maintain")
    with translation.override("ja"):
        assert render(load(dump(needed))) == "locking needs an operator: copying で失敗（書き直し）: なし"
        assert render(cancelled).startswith("a")
        assert "maintain" not in render(cancelled)
    assert render(needed) == needed


def test_the_report_names_the_audit_entry_that_ended_the_run() -> None:
    run = records.finished_run()
    entry = chain.record("console", "run.ended", run.number)
    assert entry.previous_hash in text_of(run)
    assert entry.hash not in text_of(run)


def test_the_same_run_gives_the_same_file(tmp_path: Path) -> None:
    run = records.finished_run()
    first = pdf.write(run, tmp_path / "reports").read_bytes()
    run.report_pdf = str(tmp_path / "elsewhere.pdf")
    chain.record("console", "run.ended", run.number)
    time.sleep(1.1)
    assert pdf.write(run, tmp_path / "reports").read_bytes() == first
    assert [p.name for p in (tmp_path / "reports").iterdir()] == [f"{run.number}-report.pdf"]


def test_an_outage_that_goes_on_has_no_length() -> None:
    run = records.empty_run(status=Status.NEEDS_OPERATOR)
    records.target_of(run, "shop", outage_started_at=records.at(20), ended_because="the restored copy differs")
    text = text_of(run)
    assert squeezed("service was not brought back") in text
    assert squeezed("since 12:00:20, not ended") in text
    assert pdf.render(run) == pdf.render(run)


def test_the_report_is_archivable_tagged_and_dated_by_the_run() -> None:
    run = records.finished_run()
    made = reader(run)
    assert made.metadata is not None
    assert made.metadata.title == f"Emergency maintenance report {run.number}"
    assert made.metadata.author == "dbmaint"
    assert made.metadata.creation_date == run.finished_at
    catalog: Any = made.trailer["/Root"]
    assert catalog["/MarkInfo"]["/Marked"]
    assert catalog["/Lang"] == "en"
    assert b'pdfaid:part="2"' in catalog["/Metadata"].get_data()
    assert b'pdfaid:conformance="A"' in catalog["/Metadata"].get_data()
    assert catalog["/StructTreeRoot"]["/K"]
    [intent] = catalog["/OutputIntents"]
    assert intent["/S"] == "/GTS_PDFA1"
    assert intent["/DestOutputProfile"].get_object()["/N"] == 3
    assert {"/JavaScript", "/EmbeddedFiles"} & set(catalog.get("/Names", {})) == set()
    assert made.pages[0].mediabox.width == pytest.approx(595.28, abs=0.1)


def test_every_font_is_embedded() -> None:
    pages: list[Any] = list(reader(records.finished_run()).pages)
    fonts = [font.get_object() for page in pages for font in page["/Resources"]["/Font"].values()]
    assert fonts
    for font in fonts:
        descriptor = font["/DescendantFonts"][0].get_object()["/FontDescriptor"]
        assert {"/FontFile2", "/FontFile3"} & set(descriptor)


def test_japanese_is_marked_as_such() -> None:
    run = records.finished_run()
    with translation.override("ja"):
        made = reader(run)
    catalog: Any = made.trailer["/Root"]
    assert catalog["/Lang"] == "ja"
    assert "注文明細" in "".join(page.extract_text() for page in made.pages)


def test_a_translation_that_does_not_fit_leaves_the_english_sentence() -> None:
    message = msg("{n:,} tables", n=3)
    message.values = {"other": 3}
    with translation.override("ja"):
        assert render(message) == "3 tables"
        assert render("3 tables") == "3 tables"


@pytest.mark.parametrize("status", [s for s in Status if s != Status.SUCCEEDED])
def test_a_run_that_left_nothing_behind_has_a_report(status: Status) -> None:
    run = records.empty_run(status=status, ended_because="shop: the settings of shop are gone")
    assert squeezed("the settings of shop are gone") in text_of(run)
    assert squeezed("The audit log holds no entry of this run.") in text_of(run)


def test_a_run_that_has_not_ended_has_a_report() -> None:
    run = records.empty_run(status=Status.RUNNING, started_at=None, finished_at=None)
    records.target_of(run, "shop", started_at=None, finished_at=None)
    assert squeezed("has not ended") in text_of(run)


def test_an_outage_that_lasts_has_no_length_yet() -> None:
    run = records.empty_run(status=Status.NEEDS_OPERATOR, outage_seconds=1800.0)
    records.target_of(run, "shop", outage_started_at=records.at(10))
    text = text_of(run)
    assert squeezed("service was not brought back") in text
    assert squeezed("30 min 00 s") not in text
    assert squeezed("Outage not ended") in text


def test_a_rollback_tells_what_failed_and_what_was_tried_again() -> None:
    run = records.empty_run(status=Status.ROLLED_BACK, outage_seconds=30.0)
    target = records.target_of(
        run,
        "shop",
        outage_started_at=records.at(10),
        outage_ended_at=records.at(40),
        ended_because="Failed while rewriting public.orders: disk full",
    )
    records.add_backup(target, verified=False, sha256="", bytes=None, error="Unable: no space left on device")
    records.add_backup(target, role="alternate", method="pg_basebackup")
    records.add_step(target, "G", "maintain", 12, 3, state="failed", sentence="Failed while rewriting: disk full")
    records.add_step(target, "J", "resume", 20, None, part="release 10 %", state="interrupted", attempt=2)
    records.add_action(
        target, "public.orders", state="failed", sentence="disk full", bytes_before=None, bytes_after=None
    )
    text = text_of(run)
    for told in (
        "was rolled back, its data is as before; service was out for 30.0 s",
        "Unable: no space left on device",
        "Failed while rewriting: disk full",
        "Resume release 10 % (attempt 2)",
        "The data was not compared",
        "not available",
    ):
        assert squeezed(told) in text, told


def test_rows_that_could_not_be_saved_are_listed_and_in_the_first_sentence() -> None:
    run = records.finished_run(allow_data_loss=True)
    loss = {"object": "public.orders", "rows": 1_012, "pages": [11, 4711], "detail": "two pages could not be read"}
    records.add_action(run.targets.get(), "public.orders", action="salvage", losses=[loss])
    text = text_of(run)
    for told in (
        "but not all rows could be saved",
        "Data that could not be saved",
        "1,012",
        "11, 4711",
        loss["detail"],
    ):
        assert squeezed(str(told)) in text, told


def test_what_was_rolled_back_is_neither_gain_nor_loss() -> None:
    run = records.empty_run(status=Status.ROLLED_BACK)
    target = records.target_of(run, "shop")
    records.add_baseline(target, ["public.orders"])
    records.add_proof(target, ["public.orders"], problems=["an index is missing"])
    loss = {"object": "public.orders", "rows": 12, "pages": [], "detail": "undone"}
    records.add_action(target, "public.orders", bytes_before=9_000_000, bytes_after=1_000_000, losses=[loss])
    sentence = "Restored 1 table beside, proved equality, and swapped."
    records.add_step(target, "S", "roll_back", 50, 9, part="data", sentence=sentence)
    text = text_of(run)
    assert squeezed("Tables proved equal—") in text
    assert squeezed("Space reclaimed—") in text
    assert squeezed("Rows not saved—no loss recorded") in text
    assert squeezed(f"Rollback: {sentence}") in text


def test_a_loss_of_unknown_size_is_never_told_as_none() -> None:
    run = records.finished_run(allow_data_loss=True)
    loss = {"object": "public.orders", "rows": None, "pages": [3], "detail": "one page could not be read"}
    records.add_action(run.targets.get(), "public.orders", action="salvage", losses=[loss])
    assert squeezed("Rows not saved≥ 0see the losses") in text_of(run)


def test_no_loss_is_not_claimed_where_nothing_was_compared() -> None:
    run = records.empty_run(status=Status.NEEDS_OPERATOR)
    records.target_of(run, "shop")
    assert squeezed("Rows not saved—") in text_of(run)


def test_databases_that_ended_differently_are_counted_in_the_first_sentence() -> None:
    run = records.empty_run(("shop", "crm"), status=Status.ROLLED_BACK)
    records.finished_target(run, "shop")
    records.target_of(run, "crm", ended_because="the proof failed")
    assert squeezed("of shop, crm ended differently: 1 succeeded, 1 rolled back;") in text_of(run)


def test_the_style_is_understood_and_nothing_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    pdf.render(records.finished_run(("shop", "crm")))
    assert [record.message for record in caplog.records if record.name.startswith("weasyprint")] == []


def test_a_table_that_differs_is_not_called_equal() -> None:
    run = records.empty_run()
    target = records.target_of(run, "shop")
    records.add_baseline(target, ["public.orders"])
    other: dict[str, Any] = {"public.orders": {"rows": 7, "digest": "other", "error": None}}
    records.add_proof(target, ["public.orders"], tables=other, problems=["public.orders had 1,234,567 rows and has 7"])
    text = text_of(run)
    assert "differs" in text
    assert squeezed("problem: public.orders had 1,234,567 rows and has 7") in text


def test_text_from_outside_is_text_and_loads_nothing() -> None:
    hostile = '<img src="http://192.0.2.1/x.png"><script>alert(1)</script>{% now %}' + "a" * 600
    run = records.finished_run(reason=hostile)
    assert squeezed(hostile) in text_of(run)
    with pytest.raises(ValueError, match="loads nothing"):
        paper.Nothing().fetch("file:///etc/passwd")


@pytest.mark.rare
def test_ten_databases_with_a_hundred_tables_each_stay_a_short_document() -> None:
    made = pdf.render(records.finished_run([f"db{number}" for number in range(10)], 100))
    assert len(PdfReader(io.BytesIO(made)).pages) < 40


# -- charts and lists ------------------------------------------------------------------------------


def test_charts_are_well_formed_whatever_the_names_and_numbers() -> None:
    pairs = [Pair('<b>&"', 0.0, 5.0, "0 → 5 ms"), Pair("注文" * 80, 1.0, 100.0, "slower"), Pair("", 0, 0, "")]
    for chart in (drawings.relative_bars("a & b", pairs), drawings.absolute_bars("c", pairs)):
        boxes = ET.fromstring(chart).iter("{http://www.w3.org/2000/svg}rect")
        assert all(0 <= float(box.attrib["width"]) <= drawings.WIDE for box in boxes)
    assert drawings.timeline("nothing", [], None, "") == ""


def test_lines_keep_their_columns_straight_with_wide_letters() -> None:
    columns = [Column("Table", "name"), Column("Rows", "number"), Column("Content")]
    sheet = Sheet(columns, [["sales.注文", "1,234", "equal"], ["t" * 140, "9", "differs"]], dense=True)
    assert sheet.lines == [" Rows  Content  Table", "1,234  equal    sales.注文", "    9  differs  " + "t" * 140]


def test_short_rows_stand_side_by_side() -> None:
    sheet = Sheet(
        [Column("Table", "name"), Column("Rows", "number")], [[f"t{n}", str(n)] for n in range(30)], dense=True
    )
    heading, first, *_ = sheet.lines
    assert heading.count("Rows") == first.count("|") + 1 > 5
    assert sum(line.count("t") for line in sheet.block.splitlines()) == 30


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0.0 s"),
        (0.04, "40 ms"),
        (0.9996, "1.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (9000, "2 h 30 min"),
    ],
)
def test_durations_in_words(seconds: float, told: str) -> None:
    assert labels.duration(seconds) == told


# -- the CSV ---------------------------------------------------------------------------------------


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"), newline="")))


def test_the_csv_has_one_row_a_measurement_with_the_numbers_of_the_outcome(tmp_path: Path) -> None:
    run = records.finished_run(("shop", "crm"))
    path = performance.write(run, tmp_path)
    assert path == tmp_path / f"{run.number}-performance.csv"
    rows = rows_of(path)
    assert list(rows[0]) == list(performance.COLUMNS)
    assert [r["kind"] for r in rows] == (["query"] * 4 + ["all_queries"] + ["object"] * 4 + ["load_test"]) * 2
    assert {(r["run"], r["run_id"]) for r in rows} == {(run.number, str(run.pk))}
    assert {r["database"] for r in rows} == {"shop", "crm"}
    query, told = rows[0], outcome(run)["targets"][0]["benchmark"][0]
    assert (float(query["before_median_ms"]), float(query["after_median_ms"])) == (told["before_ms"], told["after_ms"])
    assert (float(query["ratio_after_to_before"]), query["verdict"]) == (told["ratio"], told["verdict"])
    assert (float(query["ratio_low"]), float(query["ratio_high"])) == (told["ratio_low"], told["ratio_high"])
    assert (query["name"], query["cost_unit"]) == (told["query"], "blocks")
    assert query["measured_utc"] == "2026-07-01T03:00:52Z"
    assert (rows[5]["before_bytes"], rows[5]["after_bytes"]) == ("182400000", "84200000")
    assert (rows[9]["requests"], rows[9]["latency_p95_ms"]) == ("18231", "3.41")


def test_the_csv_has_a_byte_order_mark_unless_it_is_not_wanted(tmp_path: Path) -> None:
    run = records.finished_run()
    assert performance.write(run, tmp_path).read_bytes().startswith(b"\xef\xbb\xbfrun,")
    assert performance.write(run, tmp_path, bom=False).read_bytes().startswith(b"run,")


def test_a_name_is_never_a_formula_in_a_spreadsheet(tmp_path: Path) -> None:
    run = records.finished_run()
    records.add_action(run.targets.get(), '=HYPERLINK("http://192.0.2.1")')
    assert '\'=HYPERLINK("http://192.0.2.1")' in [r["name"] for r in rows_of(performance.write(run, tmp_path))]


def test_a_run_without_measurements_has_a_csv_with_its_heading(tmp_path: Path) -> None:
    path = performance.write(records.empty_run(), tmp_path)
    assert path.read_text("utf-8-sig").strip() == ",".join(performance.COLUMNS)


@pytest.mark.parametrize("columns", [performance.COLUMNS, management.COLUMNS])
def test_every_column_is_documented(columns: dict[str, str]) -> None:
    document = (Path(__file__).parents[2] / "docs" / "reports.md").read_text()
    assert [name for name, told in columns.items() if f"| `{name}` | {told} |" not in document] == []


def test_what_is_counted_is_told_by_the_rules_of_each_language() -> None:
    def told(tables: int) -> Message:
        return msg(
            "Compared {tables}: all rows are there; {checks}, none fails.",
            tables=plural.tables(tables),
            checks=plural.checks(1),
        )

    assert told(1) == "Compared 1 table: all rows are there; 1 check, none fails."
    assert told(1200) == "Compared 1,200 tables: all rows are there; 1 check, none fails."
    with translation.override("ja"):
        assert render(told(1200)) == "1,200 テーブルを比較: すべての行があります。確認 1 件、失敗なし。"
        assert render(load(dump(told(2)))) == render(told(2))
    assert load(dump(told(2))) == told(2)
