/* Draws the figure of a strategy's chart, in the text colour of the page's theme. */
"use strict";

(() => {
  const place = document.getElementById("chart");
  const source = document.getElementById("chart-figure");
  if (!place || !source) return;

  const figure = JSON.parse(source.textContent);
  const isNarrow = () => place.clientWidth < 640;

  // The figure itself has no colours that only one theme can be read in, but for these.
  function themed() {
    const isDark = document.documentElement.classList.contains("dark");
    const text = isDark ? "#d4d4d8" : "#3f3f46";
    return {
      "font.color": text,
      "hoverlabel.bgcolor": isDark ? "#27272a" : "#ffffff",
      "hoverlabel.bordercolor": text,
      "hoverlabel.font.color": text,
    };
  }

  const layout = { ...figure.layout, autosize: true };
  if (isNarrow()) {
    // A finger that moves over the chart scrolls the page; two zoom.
    layout.dragmode = false;
    layout.margin = { ...layout.margin, l: 42, r: 4 };
  }
  const config = {
    responsive: true,
    displaylogo: false,
    displayModeBar: isNarrow() ? false : "hover",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  };
  Plotly.newPlot(place, figure.data, layout, config).then(() => Plotly.relayout(place, themed()));
  new MutationObserver(() => Plotly.relayout(place, themed())).observe(document.documentElement, {
    attributes: true,
    attributeFilter: ["class"],
  });
})();
