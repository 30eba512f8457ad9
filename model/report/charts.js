// Draws Vega-Lite specifications for a light or a dark page, and again when the reader changes between them.
// `window.embedChart` is vega-embed; `window.look` has the colours of both pages (model/curves/style.py).
(function () {
  "use strict";
  const darkness = window.matchMedia("(prefers-color-scheme: dark)");
  const drawn = new Map();

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
    if (copy.spec) copy.spec.width = Math.max(180, element.clientWidth - 60);
    else {
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

  // Colour and shape both say which condition it is: one legend for the two.
  function oneLegend(vega) {
    const legends = vega.legends || [];
    const shape = legends.find((legend) => legend.shape && !legend.stroke && !legend.fill);
    const colour = legends.find((legend) => legend.stroke === "color" || legend.fill === "color");
    if (shape && colour) {
      colour.shape = shape.shape;
      delete colour.symbolType;
      vega.legends = legends.filter((legend) => legend !== shape);
    }
    return vega;
  }

  window.drawChart = function (element, spec, actions) {
    drawn.set(element, [spec, actions]);
    const theme = darkness.matches ? "dark" : "light";
    const options = { renderer: "svg", ast: true, logLevel: 1, actions: actions || false, patch: oneLegend, tooltip: { theme: theme } };
    return window.embedChart(element, themed(spec, element), options).then((result) => {
      element.dataset.drawn = theme;
      return result;
    });
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
