// Sort the rows of each body by the number of a column; the first column restores the order of the page.
for (const table of document.querySelectorAll("table.sortable")) {
  const bodies = [...table.tBodies].map((body) => {
    const rows = [...body.rows];
    return { body, rows: rows.filter((row) => !row.classList.contains("block")) };
  });
  const headings = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  const mark = (sorted, direction) => headings.forEach((th) => th.setAttribute("aria-sort", th === sorted ? direction : "none"));
  mark(headings[0], "ascending");
  headings.forEach((th, column) => th.querySelector("button").addEventListener("click", () => {
    const descending = column > 0 && th.getAttribute("aria-sort") !== "descending";
    mark(th, descending ? "descending" : "ascending");
    for (const { body, rows } of bodies) {
      const value = (row) => parseFloat(row.cells[column].textContent);
      const sorted = column === 0 ? rows : [...rows].sort((a, b) => {
        if (isNaN(value(a)) || isNaN(value(b))) return isNaN(value(a)) - isNaN(value(b)); // missing numbers last
        return descending ? value(b) - value(a) : value(a) - value(b);
      });
      body.append(...sorted);
    }
  }));
}
