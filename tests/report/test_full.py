"""The report: shapes of the paper's tables, the paper's numbers beside ours, what is missing, every form of it."""

import csv
import io
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from test_report import CELL, OBJECTIVES

from aloe_lightning.evaluation.evaluate import Evaluation, SetScores
from aloe_lightning.evaluation.records import read_records, write_records
from aloe_lightning.evaluation.results import records_of, write_scores
from aloe_lightning.paper.methods import PAPER_METHODS
from aloe_lightning.paper.published import published_rows
from aloe_lightning.report.__main__ import main
from aloe_lightning.report.collect import collect
from aloe_lightning.report.full import report
from aloe_lightning.report.grids import grids, missing
from aloe_lightning.report.measures import measures
from aloe_lightning.report.ordering import ordering

DETECTORS = {"original": ("msp", "odin", "mahalanobis"), "oe": ("msp", "odin"), "adv": ("msp",), "aoe": ("msp",)}


def scored(objective, seed):
    rng = np.random.default_rng(seed)
    names = DETECTORS.get(objective, ("msp", "odin"))
    known = {d: {s: rng.beta(3, 2, 50) for s in ("clean", "attacked", "misclassified")} for d in names}
    sets = {
        name: SetScores({d: {s: rng.beta(2, 2, 40) for s in ("clean", "attacked")} for d in names}, None)
        for name in ("a", "b")
    }
    return Evaluation(SetScores(known, 0.5 + rng.random() / 2, rng.random() / 2), sets)


def write_cell(folder, cell, scores):
    folder.mkdir(parents=True)
    write_records(folder / "records.jsonl", records_of(scores, cell, {d: d for d in scores.id.scores}))
    write_scores(folder / "scores.npz", scores)


def paper(folder, seeds=(0,)):
    """All cells of the paper, with scores from nowhere."""
    budgets = {"gtsrb": (1, 2, 3, 4), "cifar10": (1, 2, 3, 4), "cifar100": (1,)}
    number = 0
    for dataset, epsilons in budgets.items():
        for epsilon in epsilons:
            for objective in OBJECTIVES:
                for seed in seeds:
                    trained = epsilon if objective in ("adv", "aoe", "aloe") else None
                    cell = replace(CELL, dataset=dataset, objective=objective, seed=seed, protocol=dataset)
                    cell = replace(cell, eval_epsilon=epsilon, train_epsilon=trained)
                    write_cell(folder / dataset / f"{objective}-{epsilon}-{seed}", cell, scored(objective, number))
                    number += 1


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paper")
    paper(folder)
    return folder


@pytest.fixture(scope="module")
def written(outputs):
    files = report(outputs, outputs.parent / "report")
    return {path.name: path for path in files}


@pytest.fixture(scope="module")
def found(outputs):
    return [measure for group in collect(outputs).groups for measure in measures(group.runs)]


def test_every_published_number_stands_beside_one_of_ours(found):
    paired = [m for m in found if m.published is not None]
    assert len(paired) == len(published_rows()) == 372
    assert missing(found, published_rows()) == []
    for m in paired:
        assert m.difference == pytest.approx(m.row.value - m.published)
    assert all(m.interval is not None and m.interval[0] <= m.row.value <= m.interval[1] for m in found)


def test_the_shipped_numbers_are_the_papers(shared):
    theirs = (shared / "paper" / "tables.csv").read_text().splitlines()
    rows = [(r.table, r.dataset, r.method, r.epsilon, r.metric, r.value) for r in published_rows()]
    lines = csv.DictReader(line for line in theirs if not line.startswith("#"))
    assert rows == [
        (r["table"], r["dataset"], r["method"], float(r["epsilon"]), r["metric"], float(r["value"])) for r in lines
    ]


def test_the_tables_have_the_papers_shape(found):
    one, two, three, four = grids(found)
    assert [block.label for block in one.blocks] == ["GTSRB, ε = 1/255", "CIFAR-10, ε = 1/255", "CIFAR-100, ε = 1/255"]
    for block in one.blocks:
        assert tuple(name for name, _ in block.rows) == PAPER_METHODS
    assert one.headings == [("without attack", 3), ("with attack", 3)]
    assert two.columns == [(name, "ε = 1/255") for name in ("GTSRB", "CIFAR-10", "CIFAR-100")]
    assert three.headings == [("ε = 2/255", 3), ("ε = 3/255", 3), ("ε = 4/255", 3)]
    assert [block.label for block in three.blocks] == ["GTSRB", "CIFAR-10"]
    assert [name for name, _ in four.blocks[0].rows] == ["Original", "OE", "ADV", "AOE", "ALOE"]
    assert all(m is not None for grid in (one, two, three, four) for b in grid.blocks for _, row in b.rows for m in row)


def test_the_order_of_methods_is_held_to_the_papers(found):
    lines = ordering(found)
    assert [line.split(":")[0] for line in lines] == [
        *(f"{name}, {b}" for name in ("GTSRB", "CIFAR-10") for b in ("clean", *(f"ε = {e}/255" for e in (1, 2, 3, 4)))),
        "CIFAR-100, clean", "CIFAR-100, ε = 1/255",
    ]  # fmt: skip
    same = [replace(m, row=replace(m.row, value=m.published)) for m in found if m.published is not None]
    reverse = [replace(m, row=replace(m.row, value=-m.published)) for m in found if m.published is not None]
    assert all(": 1.00; " in line for line in ordering(same))
    assert all(": -1.00; " in line for line in ordering(reverse))
    assert "the paper's ALOE+ODIN > ALOE > AOE > ADV > OE+ODIN > Mahalanobis > ODIN > OE > MSP" in lines[6]


def test_the_best_of_a_column_is_the_least_or_the_greatest(found):
    (block, *_) = grids(found)[0].blocks
    values = {column: [cells[column].row.value for _, cells in block.rows] for column in (0, 2)}
    assert block.best(0).row.value == min(values[0])
    assert block.best(2).row.value == max(values[2])


def test_several_seeds_are_a_mean_and_a_deviation(tmp_path):
    paper(tmp_path / "one", seeds=(0, 1, 2))
    shutil.rmtree(tmp_path / "one" / "gtsrb")
    (group, _) = collect(tmp_path / "one").groups
    m = next(m for m in measures(group.runs) if (m.row.method, m.row.epsilon, m.row.metric) == ("OE", 1, "auroc"))
    each = []
    for seed in (0, 1, 2):
        records = read_records(tmp_path / "one" / "cifar10" / f"oe-1-{seed}" / "records.jsonl")
        wanted = ("msp", "both", "auroc")
        each.append(100 * np.mean([r.value for r in records if (r.detector, r.side, r.metric) == wanted]))
    assert (m.seeds, m.interval) == (3, None)
    assert m.row.value == pytest.approx(np.mean(each))
    assert m.margin == m.std == pytest.approx(np.std(each, ddof=1))


def test_a_seed_that_lacks_the_first_budget_adds_nothing_to_its_numbers(tmp_path):
    """Seed 1 is not done at epsilon 1: its nets of epsilon 3 are not the clean ones."""
    for number, (epsilon, seed) in enumerate(((1, 0), (3, 0), (3, 1))):
        cell = replace(CELL, dataset="mine", seed=seed, eval_epsilon=epsilon, train_epsilon=epsilon)
        write_cell(tmp_path / f"{epsilon}{seed}", cell, scored("aloe", number))
    (group,) = collect(tmp_path).groups
    found = {(m.row.method, m.row.epsilon, m.row.metric): m for m in measures(group.runs)}
    records = read_records(tmp_path / "10" / "records.jsonl")
    clean = [r.value for r in records if (r.detector, r.side, r.metric) == ("msp", "none", "auroc")]
    one, three = found["ALOE", 0, "auroc"], found["ALOE", 3, "auroc"]
    assert (one.seeds, one.row.value) == (1, pytest.approx(100 * np.mean(clean)))
    assert one.interval is not None
    assert (three.seeds, three.interval) == (2, None)


def test_clean_numbers_of_nets_of_larger_budgets_are_not_held_to_the_papers(outputs, tmp_path):
    shutil.copytree(outputs / "cifar10", tmp_path / "some")
    for folder in (tmp_path / "some").glob("*-1-0"):
        shutil.rmtree(folder)
    (group,) = collect(tmp_path).groups
    found = measures(group.runs)
    assert {m.row.epsilon for m in found if m.published is not None} == {2, 3, 4}
    assert any(m.row.epsilon == 0 for m in found)


def test_a_run_without_scores_is_named_and_left_out(outputs, tmp_path):
    shutil.copytree(outputs / "cifar100", tmp_path / "some")
    (tmp_path / "some" / "oe-1-0" / "scores.npz").unlink()
    collection = collect(tmp_path)
    assert collection.unreadable == [tmp_path / "some" / "oe-1-0"]
    assert len(collection.groups[0].runs) == 4


def test_missing_cells_are_named_and_nothing_fails(outputs, tmp_path):
    shutil.copytree(outputs, tmp_path / "some")
    shutil.rmtree(tmp_path / "some" / "cifar100")
    shutil.rmtree(tmp_path / "some" / "cifar10" / "aloe-3-0")
    shutil.rmtree(tmp_path / "some" / "gtsrb" / "original-1-0")
    files = {path.name: path for path in report(tmp_path / "some", tmp_path / "out")}
    text = files["report.md"].read_text()
    assert "- Table 3, CIFAR-10, ε = 3/255: ALOE, ALOE+ODIN" in text
    assert "- Table 1, GTSRB, clean, ε = 1/255: MSP, ODIN, Mahalanobis" in text
    assert "- Table 4, CIFAR-100, clean, ε = 1/255: Original, OE, ADV, AOE, ALOE" in text


def test_of_other_data_what_some_methods_have_and_others_have_not_is_missing(tmp_path):
    for objective, epsilon in (("oe", 1), ("oe", 2), ("aloe", 1)):
        cell = replace(CELL, dataset="mine", objective=objective, eval_epsilon=epsilon, train_epsilon=None)
        write_cell(tmp_path / f"{objective}{epsilon}", cell, scored(objective, 0))
    (group,) = collect(tmp_path).groups
    assert missing(measures(group.runs), published_rows()) == ["Table 3, mine, ε = 2/255: ALOE, ALOE+ODIN"]


def test_the_largest_group_is_shown_and_the_rest_named(outputs, tmp_path):
    shutil.copytree(outputs / "cifar100", tmp_path / "cifar100")
    write_cell(
        tmp_path / "cifar100" / "other", replace(CELL, dataset="cifar100", protocol="another"), scored("aloe", 3)
    )
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "records.jsonl").write_text('{"of": "another version"}\n')
    collection = collect(tmp_path)
    assert [len(group.runs) for group in collection.groups] == [5]
    assert collection.left_out == [tmp_path / "cifar100" / "other"]
    assert collection.unreadable == [tmp_path / "old"]


# --- the forms ---


def test_csv_holds_every_measure(written, found):
    rows = list(csv.DictReader(io.StringIO(written["tables.csv"].read_text())))
    assert len(rows) == len(found)
    for row, m in zip(rows, found, strict=True):
        assert (row["method"], float(row["value"])) == (m.row.method, pytest.approx(m.row.value, abs=0.0051))
        assert row["published"] == ("" if m.published is None else f"{m.published:.2f}")


def test_markdown_shows_value_margin_published_and_difference(written, found):
    text = written["report.md"].read_text()
    m = next(m for m in found if (m.row.table, m.row.method, m.row.epsilon) == ("table4", "ADV", 1))
    sign = f"{m.difference:+.2f}".replace("-", "−")
    assert re.search(rf"\b{m.row.value:.2f}(\*\*)? ± {m.margin:.2f}<br>", text)
    assert f"<br>({m.published:.2f}, {sign})" in text
    for line in text.splitlines():
        if line.startswith("| MSP"):
            assert line.count("|") in (5, 8, 11)


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
    assert text.count("<svg") == 4  # Figure 2 of three data sets, and the curves
    for title in ("Table 1", "Table 2", "Table 3", "Table 4", "Each OOD set", "Against the budget"):
        assert f">{title}" in text
    assert "@import" not in text
    assert "url(http" not in text


def test_the_page_is_the_same_for_the_same_results(outputs, written, tmp_path):
    again = {path.name: path for path in report(outputs, tmp_path)}
    for name in ("report.html", "report.md", "tables.csv", "tables.tex"):
        assert again[name].read_bytes() == written[name].read_bytes()


def test_captions_state_what_the_numbers_are(written):
    text = written["report.md"].read_text()
    for words in (
        *("50 in-distribution test images, OOD test sets a (40), b (40)", "paper regime, rounding none", "seed 0"),
        *("Algorithm 1 (Mahalanobis: Algorithm 2)", "ties count one half", "nearest to 95 %", "on both sides"),
        *("withdrawn", "95 % bootstrap interval", "the paper's number"),
    ):
        assert words in text


def test_figures_are_there_as_pixels_and_vectors(written):
    for name in ("scores_gtsrb", "scores_cifar10", "scores_cifar100", "curves"):
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
