// Measure a page in a frame: what is cut at the right, text of low contrast, and tables that do not sort.
function measure(frame) {
  const view = frame.contentWindow, page = frame.contentDocument, problems = [];
  const style = (element) => view.getComputedStyle(element);
  const rgba = (text) => (text.match(/[\d.]+/g) || []).map(Number);
  const luminance = (colour) => {
    const [r, g, b] = colour.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (first, second) => {
    const [low, high] = [luminance(first), luminance(second)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const background = (element) => {
    for (; element; element = element.parentElement) {
      const colour = rgba(style(element).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  for (const details of page.querySelectorAll("details")) details.open = true;

  const width = page.documentElement.clientWidth;
  if (page.documentElement.scrollWidth > width) problems.push(`the page is ${page.documentElement.scrollWidth} wide`);
  for (const element of page.querySelectorAll("body *")) {
    if (element.parentElement.closest(".wide, .scrolling, svg")) continue;
    const right = element.getBoundingClientRect().right;
    if (right > width + 0.5) problems.push(`${element.tagName} ends at ${right}`);
  }

  let texts = 0, letters = 0;
  const walker = page.createTreeWalker(page.body, view.NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
    if (!text || element.closest("script, style, svg")) continue;
    const { color, fontSize, fontWeight } = style(element);
    const large = parseFloat(fontSize) >= (fontWeight >= 700 ? 18.66 : 24);
    const measured = contrast(rgba(color).slice(0, 3), background(element).slice(0, 3));
    if (measured < (large ? 3 : 4.5)) problems.push(`contrast ${measured.toFixed(2)}: ${text.slice(0, 40)}`);
    texts += 1;
  }

  // matplotlib draws text as outlines of 100 units, scaled to the size of the text.
  for (const svg of page.querySelectorAll("svg")) {
    const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    for (const group of svg.querySelectorAll("g[id^=text_] g[transform]")) {
      const size = (100 * scale * parseFloat((group.getAttribute("transform").match(/scale\(([\d.]+)/) || [])[1]));
      if (!(size > 9.95)) problems.push(`text of ${size.toFixed(1)} pixels in ${svg.getAttribute("aria-label")}`);
      letters += 1;
    }
  }

  const tables = page.querySelectorAll("table.sortable");
  for (const table of tables) {
    const heading = [...table.tHead.rows].pop().cells[1], button = heading.querySelector("button");
    if (style(table.tHead).position !== "sticky") problems.push("the heading of a table scrolls away");
    button.focus();
    if (page.activeElement !== button || button.tagName !== "BUTTON") problems.push("a heading takes no focus");
    for (const [direction, sign] of [["descending", -1], ["ascending", 1]]) {
      button.click(); // Enter and Space click a focused button in every browser
      if (heading.getAttribute("aria-sort") !== direction) problems.push(`not marked as ${direction}`);
      for (const body of table.tBodies) {
        const rows = [...body.rows].filter((row) => !row.classList.contains("block"));
        const values = rows.map((row) => parseFloat(row.cells[1].textContent)).filter((value) => !isNaN(value));
        if (values.some((value, k) => k > 0 && sign * (value - values[k - 1]) < 0)) problems.push(`not ${direction}`);
      }
    }
  }
  const dark = view.matchMedia("(prefers-color-scheme: dark)").matches;
  return { width: view.innerWidth, dark, texts, letters, tables: tables.length, problems };
}
