"""The report: shapes of the paper's tables, the paper's numbers next to ours, missing cells, every form of it."""

import csv
import io
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from synthetic_runs import cell, write_paper, write_run

from aloe_lightning.paper.methods import PAPER_METHODS
from aloe_lightning.paper.published import published_numbers
from aloe_lightning.report import report
from aloe_lightning.report.__main__ import main
from aloe_lightning.report.drawings import drawings_of
from aloe_lightning.report.frame import records_frame, table_frame
from aloe_lightning.report.runs import collect
from aloe_lightning.report.table_layouts import table_layouts
from aloe_lightning.report.texts import method_orders, missing_cells

PERTURBED = ("ADV", "AOE", "ALOE", "ALOE+ODIN")


def framed(folder, intervals=False):
    return table_frame(records_frame(collect(folder).groups), intervals=intervals)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paper")
    write_paper(folder)
    return folder


@pytest.fixture(scope="module")
def written(outputs):
    files = report(outputs, outputs.parent / "report")
    return {path.name: path for path in files}


@pytest.fixture(scope="module")
def frame(outputs):
    return framed(outputs, intervals=True)


def test_every_published_number_has_one_of_ours_next_to_it(frame):
    compared = frame[frame.published.notna()]
    assert len(compared) == len(published_numbers()) == 372
    assert missing_cells(frame) == []
    assert (compared.difference == compared.value - compared.published).all()
    assert ((frame.low <= frame.value) & (frame.value <= frame.high)).all()


def test_the_tables_have_the_papers_shape(frame, outputs):
    one, two, three, four = table_layouts(frame, collect(outputs).groups)
    assert list(one.blocks) == ["GTSRB, ε = 1/255", "CIFAR-10, ε = 1/255", "CIFAR-100, ε = 1/255"]
    for rows in one.blocks.values():
        assert [name for name, _ in rows] == [method.title for method in PAPER_METHODS[:9]]
    assert one.headings == [("without attack", 3), ("with attack", 3)]
    assert [column[1:] for column in two.columns] == [
        (name, "ε = 1/255") for name in ("GTSRB", "CIFAR-10", "CIFAR-100")
    ]
    budgets = [f"ε = {epsilon}/255" for epsilon in (2, 3, 4)]
    assert three.headings == [*((b, 3) for b in budgets), *((f"clean, nets of {b}", 3) for b in budgets)]
    assert list(three.blocks) == ["GTSRB", "CIFAR-10"]
    assert four.headings == [("clean", 4), ("under PGD", 4)]
    assert [name for name, _ in four.blocks["GTSRB"]] == ["Original", "OE", "ADV", "AOE", "ALOE"]
    for layout in (one, two, three):
        assert all(estimate is not None for rows in layout.blocks.values() for _, row in rows for estimate, _ in row)


def test_larger_budgets_show_the_clean_numbers_of_their_nets(frame, outputs):
    """The one net of an objective that perturbs nothing is shown in the column of each budget."""
    layouts = {layout.title[:7]: layout for layout in table_layouts(frame, collect(outputs).groups)}
    (rows, *_) = layouts["Table 3"].blocks.values()
    clean = {name: [estimate for estimate, _ in row[9:]] for name, row in rows}
    (base, *_) = layouts["Table 1"].blocks.values()
    for name, row in base:
        repeated = [estimate.value for estimate in clean[name]] == 3 * [estimate.value for estimate, _ in row[:3]]
        assert repeated == (name not in PERTURBED)
        assert all(np.isnan(estimate.published) for estimate in clean[name]), "the paper's clean nets are trained at 1"


def test_a_data_set_without_the_first_budget_keeps_its_numbers_in_table_3(outputs, tmp_path):
    shutil.copytree(outputs / "cifar10", tmp_path / "some", ignore=shutil.ignore_patterns("*-1-0", "*-4-0"))
    frame = framed(tmp_path)
    one, _, three, _ = table_layouts(frame, collect(tmp_path).groups)
    assert one.headings == [("without attack", 3)]
    assert three.headings == [("ε = 2/255", 3), ("ε = 3/255", 3), ("clean, nets of ε = 3/255", 3)]
    clean = frame[(frame.epsilon == 0) & frame.published.notna()]
    assert set(clean.method.map(str)) == {"MSP", "ODIN", "Mahalanobis", "OE", "OE+ODIN", "Original"}


def test_the_best_of_a_column_is_the_least_or_the_greatest(frame, outputs):
    (rows, *_) = table_layouts(frame, collect(outputs).groups)[0].blocks.values()
    for column, choose in ((0, min), (1, min), (2, max)):
        cells = [row[column] for _, row in rows]
        best = [estimate.value for estimate, mark in cells if mark]
        assert best == [choose(estimate.value for estimate, _ in cells)]


def test_the_order_of_methods_is_compared_with_the_papers(frame):
    lines = method_orders(frame)
    assert [line.split(":")[0] for line in lines] == [
        *(f"{name}, {b}" for name in ("GTSRB", "CIFAR-10") for b in ("clean", *(f"ε = {e}/255" for e in (1, 2, 3, 4)))),
        "CIFAR-100, clean", "CIFAR-100, ε = 1/255",
    ]  # fmt: skip
    assert all(": 1.00; " in line for line in method_orders(frame.assign(value=frame.published)))
    assert all(": -1.00; " in line for line in method_orders(frame.assign(value=-frame.published)))
    assert "the paper's ALOE+ODIN > ALOE > AOE > ADV > OE+ODIN > Mahalanobis > ODIN > OE > MSP" in lines[6]


def test_several_seeds_are_a_mean_and_a_deviation(tmp_path):
    for seed in (0, 1, 2):
        write_run(tmp_path / f"oe{seed}", cell("oe", seed=seed), seed)
    frame = framed(tmp_path, intervals=True)
    (layout, *_) = table_layouts(frame, collect(tmp_path).groups)
    estimate, _ = layout.blocks["CIFAR-10, ε = 1/255"][0][1][5]
    assert (frame.seeds == 3).all()
    assert frame.low.isna().all()
    assert estimate.margin == estimate.std > 0
    report(tmp_path, tmp_path / "out")
    assert "± is the standard deviation over seeds." in (tmp_path / "out" / "report.md").read_text()


def test_missing_cells_are_named_and_nothing_fails(outputs, tmp_path):
    shutil.copytree(outputs, tmp_path / "some")
    shutil.rmtree(tmp_path / "some" / "cifar100")
    shutil.rmtree(tmp_path / "some" / "cifar10" / "aloe-3-0")
    shutil.rmtree(tmp_path / "some" / "gtsrb" / "adv-1-0")
    files = {path.name: path for path in report(tmp_path / "some", tmp_path / "out")}
    text = files["report.md"].read_text()
    assert "- Table 3, CIFAR-10, ε = 3/255: ALOE, ALOE+ODIN" in text
    assert "- Table 1, GTSRB, clean, ε = 1/255: ADV\n" in text
    assert "- Table 4, CIFAR-100, clean, ε = 1/255: Original, OE, ADV, AOE, ALOE" in text


def test_on_other_data_a_cell_is_missing_if_other_methods_have_it(tmp_path):
    for objective, epsilon in (("oe", 1), ("oe", 2), ("aloe", 1)):
        run = cell(objective, dataset="own", eval_epsilon=epsilon, train_epsilon=None)
        write_run(tmp_path / f"{objective}{epsilon}", run)
    lines = ["Larger budgets, own, ε = 2/255: ALOE, ALOE+ODIN", "Accuracy, own, ε = 2/255: ALOE"]
    assert missing_cells(framed(tmp_path)) == lines


def test_nets_that_are_evaluated_at_other_budgets_miss_nothing(tmp_path):
    for objective, trained, epsilon in (("oe", None, 1), ("oe", None, 2), ("aloe", 1, 2), ("aloe", 2, 2)):
        run = cell(objective, dataset="own", eval_epsilon=epsilon, train_epsilon=trained)
        write_run(tmp_path / f"{objective}{trained}{epsilon}", run)
    assert missing_cells(framed(tmp_path)) == []


def test_the_largest_group_is_shown_and_the_others_are_named(outputs, tmp_path):
    shutil.copytree(outputs / "cifar100", tmp_path / "cifar100")
    write_run(tmp_path / "cifar100" / "other", cell(dataset="cifar100", protocol="another"))
    (tmp_path / "cifar100" / "oe-1-0" / "scores.npz").unlink()
    text = {path.name: path for path in report(tmp_path, tmp_path / "out")}["report.md"].read_text()
    assert "\n4 cells on CIFAR-100, seed 0." in text
    assert f"different protocol, detector settings or images: {tmp_path / 'cifar100' / 'other'}" in text
    assert f"records of another version, or without scores: {tmp_path / 'cifar100' / 'oe-1-0'}" in text


# --- the forms ---


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
    layouts = table_layouts(framed(tmp_path), collect(tmp_path).groups)
    assert [(layout.label, layout.title.split(" ")[0], list(layout.blocks)) for layout in layouts] == [
        ("Table 1", "Table", ["CIFAR-10, ε = 1/255"]), ("Table 2", "Table", [""]), ("Table 4", "Table", ["CIFAR-10"]),
        ("Detection", "In-", ["own, ε = 1/255"]), ("Rejected images", "Images", [""]),
        ("Accuracy", "Accuracy", ["own"]),
    ]  # fmt: skip
    titles = [drawing.title for drawing in drawings_of(collect(tmp_path), framed(tmp_path), [])]
    assert titles == ["Figure 2, CIFAR-10", "ROC curves, CIFAR-10", "Scores, own", "ROC curves, own"]


def test_the_page_is_the_same_for_the_same_results(outputs, written, tmp_path):
    again = {path.name: path for path in report(outputs, tmp_path)}
    for name in ("report.html", "report.md", "tables.csv", "tables.tex"):
        assert again[name].read_bytes() == written[name].read_bytes()


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


def test_the_command_prints_what_it_wrote_and_names_an_empty_folder(outputs, tmp_path, capsys):
    assert main([str(outputs / "cifar100"), "--out", str(tmp_path / "out")]) == 0
    assert str(tmp_path / "out" / "report.html") in capsys.readouterr().out.splitlines()
    assert main([str(tmp_path / "nothing")]) == 2
    assert f"no finished runs under {tmp_path / 'nothing'}" in capsys.readouterr().err


def test_the_command_imports_no_torch(outputs, tmp_path):
    code = (
        "import sys; from aloe_lightning.report.__main__ import main; "
        f"assert main([{str(outputs / 'cifar100')!r}, '--out', {str(tmp_path)!r}]) == 0; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120)
