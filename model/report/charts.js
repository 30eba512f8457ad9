// Draws Vega-Lite specifications for a light or a dark page, and again when the reader changes between them.
// `window.embedChart` is vega-embed; `window.look` has the colours of both pages (model/curves/style.py).
(function () {
  "use strict";
  const darkness = window.matchMedia("(prefers-color-scheme: dark)");
  const drawn = new Map();
  const views = new Map();

  function themed(spec, element) {
    let text = JSON.stringify(spec);
    if (darkness.matches) {
      for (const [light, dark] of window.look) text = text.replaceAll(light, dark);
    }
    const copy = JSON.parse(text);
    const ink = getComputedStyle(document.body).color;
    const rule = darkness.matches ? "#4A515B" : "#C9CDD2";
    const config = (copy.config = copy.config || {});
    config.axis = { ...config.axis, labelColor: ink, titleColor: ink, gridColor: rule, domainColor: rule, tickColor: rule };
    config.legend = { ...config.legend, labelColor: ink, titleColor: ink };
    config.title = { ...config.title, color: ink };
    config.header = { ...config.header, labelColor: ink };
    config.style = { ...config.style, "row-label": { fontSize: 11.5, color: ink } };
    if (copy.title) copy.title.text = lines(copy.title.text, element.clientWidth / 9.5);
    // Rows of charts do not fit themselves to the page; those with an axis of values need its width.
    const besides = copy.spec && copy.spec.encoding ? 90 : 60;
    if (copy.spec) {
      copy.spec.width = Math.max(180, element.clientWidth - besides);
      config.header.labelLimit = copy.spec.width;
    } else {
      copy.width = "container";
      if (typeof copy.height === "object") copy.autosize = { type: "fit-x", contains: "padding" };
    }
    return copy;
  }

  // A title is no wider than its chart.
  function lines(text, width) {
    const found = [""];
    for (const word of text.split(" ")) {
      const last = found.length - 1;
      if (found[last] && found[last].length + word.length >= width) found.push(word);
      else found[last] = (found[last] + " " + word).trim();
    }
    return found;
  }

  // Colour and marker both say which condition it is: one legend for the two. With several revisions
  // marker and dash both say which revision: the legend has what the chart has, and training has no markers.
  function oneLegend(rows, width, vega) {
    const legends = vega.legends || [];
    const shape = legends.find((legend) => legend.shape && !legend.stroke && !legend.fill);
    const colour = legends.find((legend) => legend.stroke === "color" || legend.fill === "color");
    const dashes = legends.find((legend) => legend.strokeDash);
    const isDiff = new Set(rows.map((row) => row.rev)).size > 1;
    let dropped = shape;
    if (shape && colour && !isDiff) {
      colour.shape = shape.shape;
      delete colour.symbolType;
    } else if (shape && dashes && rows.some((row) => row.split !== "train")) dropped = dashes;
    if (shape) vega.legends = legends.filter((legend) => legend !== dropped);
    const names = [...new Set(rows.map((row) => row.condition))];
    const widest = Math.max(...names.map((name) => String(name).length));
    const columns = Math.max(1, Math.floor((width - 70) / (7.5 * widest + 26)));
    if (colour && names.length > columns) colour.columns = columns;
    return vega;
  }

  window.drawChart = function (element, spec, actions) {
    drawn.set(element, [spec, actions]);
    const theme = darkness.matches ? "dark" : "light";
    const patch = (vega) => oneLegend(spec.data.values, element.clientWidth, vega);
    const options = { renderer: "svg", ast: true, logLevel: 1, actions: actions || false, patch: patch, tooltip: { theme: theme } };
    return window.embedChart(element, themed(spec, element), options).then((result) => {
      element.dataset.drawn = theme;
      views.set(element, result.view);
      return result;
    });
  };

  // Gives a chart that is drawn new rows for its named data; what is drawn later takes those of its specification.
  window.updateChart = function (element, rows) {
    const view = views.get(element);
    if (!view) return;
    for (const [name, values] of Object.entries(rows)) view.data(name, values);
    view.resize().runAsync();
  };

  function again(only) {
    for (const [element, [spec, actions]] of drawn) if (only(spec)) window.drawChart(element, spec, actions);
  }
  darkness.addEventListener("change", () => again(() => true));
  let waiting;
  window.addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => again((spec) => spec.spec), 150);
  });
})();
