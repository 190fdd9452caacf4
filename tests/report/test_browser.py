"""The report in a browser: nothing is cut, text has contrast, and tables sort, wide and narrow, light and dark."""

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHECK = Path(__file__).with_name("page_check.js")
WIDTHS = (1400, 420)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the search path")]


def measured(page, folder, dark):
    """Return the measurements of `page_check.js` in a frame of each width."""
    frames = "".join(f'<iframe width="{width}" height="900" style="border: 0"></iframe>' for width in WIDTHS)
    harness = folder / "harness.html"
    harness.write_text(
        f'<!doctype html><meta charset="utf-8">{frames}<pre id="results"></pre>'
        f'<template id="page">{escape(page)}</template><script>{CHECK.read_text()}\n'
        "const frames = [...document.querySelectorAll('iframe')], results = [];\n"
        "for (const frame of frames) {\n"
        "  frame.onload = () => {\n"
        "    results.push(measure(frame));\n"
        "    document.getElementById('results').textContent = JSON.stringify(results);\n"
        "  };\n"
        "  frame.srcdoc = document.getElementById('page').content.textContent;\n"
        "}</script>"
    )
    words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    words += [f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--virtual-time-budget=20000", "--dump-dom"]
    done = subprocess.run([*words, harness.as_uri()], capture_output=True, text=True, check=True, timeout=300)
    return json.loads(unescape(re.search(r'<pre id="results">(.*?)</pre>', done.stdout, re.DOTALL)[1]))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_fits_can_be_read_and_sorts(written, tmp_path, dark):
    page = written["report.html"].read_text()
    wide, narrow = sorted(measured(page, tmp_path, dark), key=lambda result: -result["width"])
    assert (wide["width"], narrow["width"]) == WIDTHS
    for result in (wide, narrow):
        assert result["dark"] is dark
        assert result["tables"] == page.count('class="sortable"') > 4
        assert result["texts"] > 500
        assert result["letters"] > 300, "texts in figures"
        assert result["problems"] == []


def test_the_check_finds_what_is_wrong(tmp_path):
    page = (
        '<body style="margin: 0"><p style="color: #999">grey</p><div style="width: 600px">broad</div>'
        '<table class="sortable"><thead><tr><th>a</th><th><button>b</button></th></tr></thead>'
        "<tbody><tr><td>x</td><td>1</td></tr><tr><td>y</td><td>2</td></tr></tbody></table>"
        '<svg viewBox="0 0 100 50" width="100" aria-label="A"><g id="text_1"><g transform="scale(0.07 -0.07)"></g></g>'
        "</svg></body>"
    )
    wide, narrow = sorted(measured(page, tmp_path, False), key=lambda result: -result["width"])
    found = {
        "contrast 2.85: grey",
        "text of 7.0 pixels in A",
        "the heading of a table scrolls away",
        "not marked as descending",
        "not descending",
    }
    assert found <= set(wide["problems"])
    assert "the page is 600 wide" not in wide["problems"]
    assert {*found, "the page is 600 wide", "DIV ends at 600"} <= set(narrow["problems"])
