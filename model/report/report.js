// Fills the figures of the report, once its words are painted.
(function () {
  "use strict";
  const specs = JSON.parse(document.getElementById("chart-data").textContent);

  function draw(id, x) {
    const { data, by } = specs[id];
    const spec = by[x] || Object.values(by)[0];
    const [columns, ...rows] = data;
    const values = rows.map((row) => Object.fromEntries(row.map((value, number) => [columns[number], value])));
    window.drawChart(document.getElementById(id), { ...spec, data: { values: values, format: { parse: null } } });
  }

  for (const choice of document.querySelectorAll("input[name=x]")) {
    choice.addEventListener("change", () => {
      for (const id of Object.keys(specs)) if (Object.keys(specs[id].by).length > 1) draw(id, choice.value);
    });
  }
  const chosen = document.querySelector("input[name=x]:checked");
  for (const id of Object.keys(specs)) draw(id, chosen && chosen.value);
})();
