"""The report in every form: CSV, Markdown, LaTeX, HTML, figures, and its command."""

import csv
import io
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from synthetic_runs import cell, write_run

from aloe_lightning.paper.methods import PAPER_METHODS
from aloe_lightning.report import report
from aloe_lightning.report.__main__ import main
from aloe_lightning.report.drawings import drawings_of
from aloe_lightning.report.frame import records_frame, table_frame
from aloe_lightning.report.runs import collect
from aloe_lightning.report.table_layouts import table_layouts


def test_csv_holds_every_number(written, frame):
    rows = list(csv.DictReader(io.StringIO(written["tables.csv"].read_text())))
    assert len(rows) == len(frame)
    for row, number in zip(rows, frame.itertuples(), strict=True):
        assert (row["method"], float(row["value"])) == (str(number.method), pytest.approx(number.value, abs=0.0051))
        for name in ("low", "high", "published", "difference", "std"):
            value = getattr(number, name)
            assert row[name] == ("" if np.isnan(value) else f"{value:.2f}")
        assert row["trained_at"] == ("" if np.isnan(number.trained_at) else f"{number.trained_at:g}")


def test_markdown_shows_value_margin_published_and_difference(written, frame):
    text = written["report.md"].read_text()
    adv = frame[frame.method.map(str) == "ADV"]
    number = next(r for r in adv.itertuples() if (r.table, r.epsilon) == ("table4", 1))
    sign = f"{number.difference:+.2f}".replace("-", "−")
    assert re.search(rf"\b{number.value:.2f}(\*\*)? ± {(number.high - number.low) / 2:.2f}<br>", text)
    assert f"<br>({number.published:.2f}, {sign})" in text
    for line in text.splitlines():
        if line.startswith("| MSP"):
            assert line.count("|") in (5, 8, 20)


def test_latex_is_balanced_and_complete(written):
    text = written["tables.tex"].read_text()
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 4
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 4
    assert text.count("{") == text.count("}")
    for block in re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", text, re.S):
        rows = [line for line in block[1].splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert {len(re.split(r"(?<!\\)&", row)) for row in rows} == {len(block[0])}
    assert not re.search(r"(?<!\\)%(?! Needs| To leave)", text.replace("\n", " "))
    assert not [letter for letter in text if ord(letter) > 127]


class Pages(HTMLParser):
    """Tags left open, links, and what is fetched from elsewhere."""

    VOID = ("meta", "br", "link", "img", "path", "use", "rect")

    def __init__(self):
        super().__init__()
        self.open, self.wrong, self.links, self.names, self.fetched = [], [], set(), set(), []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag not in self.VOID:
            self.open.append(tag)
        self.names.add(found.get("id"))
        if tag == "a":
            self.links.add(found["href"])
        self.fetched += [found[key] for key in ("src",) if key in found]
        if tag == "link":
            self.fetched.append(found.get("href"))

    def handle_endtag(self, tag):
        if tag not in self.VOID and self.open.pop() != tag:
            self.wrong.append(tag)


def test_html_is_one_whole_page_that_fetches_nothing(written):
    text = written["report.html"].read_text()
    page = Pages()
    page.feed(text)
    assert (page.open, page.wrong, page.fetched) == ([], [], [])
    assert {link.removeprefix("#") for link in page.links} <= page.names
    assert text.count("<svg") == 1 + 2 * 3 + 2  # verdict; scores and ROC of three data sets; ranks and budgets
    for title in ("Table 1", "Table 2", "Table 3", "Table 4", "Each OOD set", "Against the budget"):
        assert f">{title}" in text
    assert "@import" not in text
    assert "url(http" not in text


def test_tables_are_sorted_by_buttons_within_their_blocks(written):
    """A browser runs the script; here: it is in the page, and each column of each table has a button."""
    text = written["report.html"].read_text()
    assert 'querySelectorAll("table.sortable")' in text[text.index("<script>") :]
    tables = re.findall(r"<table.*?</table>", text, re.S)
    assert len(tables) == 4 + 2 * (4 + 4 + 1)
    for table in tables:
        head, _, body = table.partition("</thead>")
        columns = len(re.findall(r'<th scope="col"><button type="button">[^<]+</button></th>', head))
        widths = {len(re.findall("<t[hd]", row)) for row in re.findall(r"<tr>.*?</tr>", body, re.S)}
        assert widths == {columns}
        assert table.startswith('<table class="sortable">')
    assert [table.count("<tbody>") for table in tables[:4]] == [3, 1, 2, 3]


def test_other_data_have_tables_without_numbers_after_those_of_the_paper(tmp_path):
    for objective in ("oe", "aloe"):
        write_run(tmp_path / f"own-{objective}", cell(objective, dataset="own"))
        write_run(tmp_path / objective, cell(objective))
    collection = collect(tmp_path)
    frame = table_frame(records_frame(collection.groups))
    layouts = table_layouts(frame, collection.groups)
    assert [(layout.label, layout.title.split(" ")[0], list(layout.blocks)) for layout in layouts] == [
        ("Table 1", "Table", ["CIFAR-10, ε = 1/255"]), ("Table 2", "Table", [""]), ("Table 4", "Table", ["CIFAR-10"]),
        ("Detection", "In-", ["own, ε = 1/255"]), ("Rejected images", "Images", [""]),
        ("Accuracy", "Accuracy", ["own"]),
    ]  # fmt: skip
    titles = [drawing.title for drawing in drawings_of(collection, frame, [])]
    assert titles == ["Figure 2, CIFAR-10", "ROC curves, CIFAR-10", "Scores, own", "ROC curves, own"]


def test_captions_state_what_the_numbers_are(written):
    text = written["report.md"].read_text()
    for words in (
        "50 in-distribution test images, OOD test sets a (40), b (40)",
        "paper regime (PGD, 10 steps of 1/255, random start, rounding none)",
        "Algorithm 1 (Mahalanobis: Algorithm 2)",
        "ADV, AOE, ALOE: trained at the budget that attacks them",
        *("seed 0", "ties count one half", "nearest to 95 %", "on both sides", "withdrawn"),
        *("95 % bootstrap interval", "Wilson's 95 % interval", "the paper's number"),
    ):
        assert words in text


def test_each_ood_set_has_every_method(written, outputs):
    text = written["report.html"].read_text()
    assert "GTSRB, clean, nets of ε = 2/255: FPR95 ↓ / AUROC ↑ on each OOD set" in text
    assert text.count("<details>") == 2 * (4 + 4 + 1)
    first = text[text.index("<details>") :]
    names = re.findall(r'<th scope="row">([^<]*)</th>', first[first.index("<tbody>") : first.index("</tbody>")])
    assert names == [method.title for method in PAPER_METHODS[:9]]


def test_figures_are_there_as_pixels_and_vectors(written):
    for name in ("verdict", "scores_gtsrb", "roc_cifar10", "scores_cifar100", "ranks", "curves"):
        assert written[f"{name}.png"].read_bytes().startswith(b"\x89PNG")
        assert written[f"{name}.pdf"].read_bytes().startswith(b"%PDF")


@pytest.mark.usefixtures("no_figures")
def test_the_command_prints_what_it_wrote_and_names_an_empty_folder(outputs, tmp_path, capsys):
    assert main([str(outputs / "cifar100"), "--out", str(tmp_path / "out")]) == 0
    assert str(tmp_path / "out" / "report.html") in capsys.readouterr().out.splitlines()
    assert main([str(tmp_path / "nothing")]) == 2
    assert f"no finished runs under {tmp_path / 'nothing'}" in capsys.readouterr().err


@pytest.mark.usefixtures("no_figures")  # of the first; the other process draws them
def test_the_command_imports_no_torch_and_the_page_is_the_same_for_the_same_results(outputs, tmp_path):
    code = (
        "import sys; from aloe_lightning.report.__main__ import main; "
        f"assert main([{str(outputs / 'cifar100')!r}, '--out', {str(tmp_path / 'again')!r}]) == 0; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120)
    first = {path.name: path for path in report(outputs / "cifar100", tmp_path / "first")}
    for name in ("report.html", "report.md", "tables.csv", "tables.tex"):
        assert (tmp_path / "again" / name).read_bytes() == first[name].read_bytes()
