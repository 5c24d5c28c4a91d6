"use strict";
(function () {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const narrow = 620;
  const drawn = new Set();

  function color(name) {
    return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  }

  /* Break a long name into lines of so many letters, and cut what is longer than so many lines. */
  function wrapped(text, width, lines) {
    if (lines === 1) return plain(text.length > width ? text.slice(0, width - 1) + "…" : text);
    const out = [""];
    for (const word of String(text).split(" ")) {
      let rest = word;
      while (rest.length > width) {
        if (out[out.length - 1]) out.push("");
        out[out.length - 1] = rest.slice(0, width);
        rest = rest.slice(width);
      }
      const last = out[out.length - 1];
      if (last && last.length + 1 + rest.length > width) out.push(rest);
      else out[out.length - 1] = last ? last + " " + rest : rest;
    }
    const kept = out.slice(0, lines);
    if (out.length > lines) kept[lines - 1] = kept[lines - 1].slice(0, width - 1) + "…";
    return kept.map(plain).join("<br>");
  }

  /* Plotly reads some tags in texts; a name must stay a name. */
  function plain(text) {
    return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  }

  function painted(value) {
    if (value === "THEME_TEXT") return color("text");
    if (Array.isArray(value)) return typeof value[0] === "number" ? value : value.map(painted);
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, painted(inner)]));
    return value;
  }

  function layoutOf(figure, width) {
    const layout = painted(figure.layout);
    const thin = width < narrow;
    layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
    layout.font = { color: color("text"), size: thin ? 11 : 13,
                    family: getComputedStyle(document.body).fontFamily };
    layout.hoverlabel = { bgcolor: color("panel"), bordercolor: color("line"),
                          font: { color: color("text") }, namelength: -1 };
    layout.legend = Object.assign({ bgcolor: "rgba(0,0,0,0)" }, layout.legend);
    for (const name of ["xaxis", "yaxis"]) {
      const axis = layout[name];
      axis.gridcolor = axis.zerolinecolor = axis.linecolor = color("line");
      if (name === "xaxis" && axis.zeroline) axis.zerolinecolor = color("text");
      axis.title.text = axis.title.text && wrapped(axis.title.text, thin ? 40 : 90, 3);
      axis.title.font = { size: thin ? 11 : 13, color: color("dim") };
      if (name === "yaxis" && axis.ticktext)
        axis.ticktext = axis.ticktext.map((text) => wrapped(text, thin ? 17 : 58, thin ? 3 : 1));
      if (thin && name === "xaxis") axis.nticks = 5;
    }
    if (thin && layout.yaxis.ticktext) layout.yaxis.tickfont = { size: 9.5 };
    return layout;
  }

  function dataOf(figure, width) {
    const length = width < narrow ? 34 : 60;
    return painted(figure.data).map((trace) => {
      if (trace.name) trace.name = wrapped(trace.name, length, 2);
      if (trace.customdata) trace.customdata = trace.customdata.map((row) => row.map(plain));
      return trace;
    });
  }

  function draw(place) {
    const figure = figures[place.dataset.figure];
    const width = place.clientWidth;
    if (!width) return;
    const copy = JSON.parse(JSON.stringify(figure));
    copy.layout.yaxis.title = copy.layout.yaxis.title || { text: "" };
    const long = copy.layout.yaxis.ticktext && width < narrow;
    const height = parseFloat(place.dataset.height || place.style.height);
    place.dataset.height = height;
    const tall = long ? height + 14 * copy.layout.yaxis.ticktext.length : height;
    place.style.height = tall + "px";
    const layout = layoutOf(copy, width);
    layout.height = tall;
    Plotly.react(place, dataOf(copy, width), layout,
                 { displayModeBar: false, responsive: true, displaylogo: false });
    drawn.add(place);
  }

  const all = Array.from(document.querySelectorAll(".plot"));
  const visible = all.filter((place) => !place.closest("details"));
  visible.forEach(draw);
  for (const fold of document.querySelectorAll("details"))
    fold.addEventListener("toggle", () => fold.querySelectorAll(".plot").forEach(draw));
  dark.addEventListener("change", () => drawn.forEach(draw));
  let was = window.innerWidth;
  window.addEventListener("resize", () => {
    if ((was < narrow) !== (window.innerWidth < narrow)) drawn.forEach(draw);
    was = window.innerWidth;
  });

  /* Tables: a press on a heading sorts by it, another turns the order round. */
  function keyOf(row, column) {
    const cell = row.cells[column];
    if (cell.dataset.key !== undefined) return Number(cell.dataset.key);
    const number = Number(cell.textContent.replace(/,/g, ""));
    return Number.isNaN(number) ? cell.textContent : number;
  }
  function sort(table, head) {
    const column = head.cellIndex;
    const up = head.getAttribute("aria-sort") !== "ascending";
    const body = table.tBodies[0];
    const rows = Array.from(body.rows).map((row) => [keyOf(row, column), row]);
    rows.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0) * (up ? 1 : -1));
    rows.forEach(([, row]) => body.appendChild(row));
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
  }
  for (const table of document.querySelectorAll("table.sortable"))
    for (const head of table.tHead.rows[0].cells) {
      head.tabIndex = 0;
      head.addEventListener("click", () => sort(table, head));
      head.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(table, head); }
      });
    }
  document.documentElement.dataset.ready = String(drawn.size);
})();
