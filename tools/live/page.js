// Ask every two seconds what runs, and pass the new rows to the charts, which are not rebuilt.
(function () {
  "use strict";
  const every = 2000;
  const charts = {}; // name → figure, element, empty specification, drawn specification
  let conditions = "";

  function add(parent, tag, text, name) {
    const element = document.createElement(tag);
    if (text) element.textContent = text;
    if (name) element.className = name;
    parent.append(element);
    return element;
  }

  for (const { name, title, caption, spec } of window.liveCharts) {
    const figure = add(document.getElementById("charts"), "figure");
    figure.hidden = true;
    add(figure, "h3", title);
    const element = add(figure, "div", "", "chart");
    element.id = name;
    element.setAttribute("role", "img");
    element.setAttribute("aria-label", "Chart: " + title);
    add(figure, "figcaption", caption);
    charts[name] = { figure, element, empty: spec };
  }

  // Each condition has one colour and shape in all runs. Without conditions there must be no legend: Vega would give it an infinite height.
  function filled(spec, looks) {
    const isEmpty = !looks["<CONDITIONS>"].length;
    return JSON.parse(JSON.stringify(spec), (key, value) => {
      if (key === "legend" && isEmpty) return null;
      return typeof value === "string" && Object.hasOwn(looks, value) ? looks[value] : value;
    });
  }

  function draw(live) {
    const looks = { "<CONDITIONS>": live.conditions.names, "<COLOURS>": live.conditions.colours, "<SHAPES>": live.conditions.shapes };
    const changed = conditions !== (conditions = JSON.stringify(live.conditions));
    for (const [name, chart] of Object.entries(charts)) {
      const rows = live.charts[name];
      chart.figure.hidden = !rows;
      if (!rows) continue;
      const isNew = changed || !chart.spec;
      if (isNew) chart.spec = filled(chart.empty, looks);
      chart.spec.data.values = rows.running;
      for (const layer of chart.spec.layer) if (layer.data) layer.data.values = rows.committed;
      if (isNew) {
        chart.element.dataset.chart = "";
        window.drawChart(chart.element, chart.spec);
      } else {
        window.updateChart(chart.element, rows);
      }
      chart.element.dataset.rows = rows.running.length;
    }
  }

  function table(parent, rows) {
    const all = add(add(parent, "div", "", "scroll"), "table");
    const head = add(add(all, "thead"), "tr");
    for (const word of ["", "Step", "Now", "Committed", "Difference"]) add(head, "th", word, word && "number").scope = "col";
    const body = add(all, "tbody");
    for (const [label, ...cells] of rows) {
      const row = add(body, "tr");
      add(row, "th", label).scope = "row";
      for (const cell of cells) add(row, "td", cell, "number");
    }
  }

  function list(live) {
    const runs = document.getElementById("runs");
    runs.replaceChildren();
    for (const run of live.runs) {
      const article = add(runs, "article", "", "run");
      add(article, "h3", run.name);
      if (run.share !== null) {
        const bar = add(article, "progress");
        bar.value = run.share;
        bar.setAttribute("aria-label", run.name);
      }
      add(article, "p", run.words);
      if (run.figures.length) table(article, run.figures);
      for (const line of run.facts) add(article, "p", line, "soft");
    }
    document.title = live.title;
  }

  function state(text) {
    const element = document.getElementById("state");
    if (element.textContent !== text) element.textContent = text;
  }

  async function ask() {
    try {
      const answer = await fetch("/live.json", { cache: "no-store" });
      const live = await answer.json();
      list(live);
      draw(live);
      state(live.state);
    } catch (error) {
      if (!(error instanceof TypeError || error instanceof SyntaxError)) throw error;
      state("make watch has ended. This page shows its last state, and asks again.");
    } finally {
      setTimeout(ask, every);
    }
  }
  ask();
})();
