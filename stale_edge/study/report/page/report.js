// Draws the charts with plotly.js, in the colours of the page; LOOKS comes before this.
(() => {
  "use strict";
  const root = document.documentElement;
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star"];
  const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
  const PATTERNS = ["", "/", ".", "\\", "x", "+"];
  // Plotly reads a little HTML in names; theirs are plain text.
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const pick = (list, place) => list[place % list.length];
  const faded = (colour) => colour + "33";

  const colours = () => {
    const style = getComputedStyle(root);
    const read = (name) => style.getPropertyValue(name).trim();
    return { ink: read("--ink"), soft: read("--soft"), grid: read("--grid"), paper: read("--paper"),
      line: read("--line"), accent: read("--accent"), series: LOOKS[root.dataset.look] };
  };

  const hover = (chart) => {
    const x = chart.bars ? "%{x}" : chart.x_label + ": %{x:,~g}";
    return "<b>%{fullData.name}</b><br>" + plain(x) +
      "<br>%{y:,.4~g} (%{customdata[0]:,.4~g} – %{customdata[1]:,.4~g})%{customdata[2]}<extra></extra>";
  };

  const traces = (chart, look) => chart.series.flatMap((series) => {
    const colour = series.thesis ? look.soft : pick(look.series, series.colour);
    const x = chart.bars ? series.x.map(plain) : series.x;
    const common = {
      name: plain(series.name), x, y: series.y, hovertemplate: hover(chart), legendgroup: plain(series.name),
      customdata: series.y.map((_, i) => [series.low[i], series.high[i],
        series.count[i] ? "<br>values: " + series.count[i] : ""]),
    };
    if (chart.marks && series.thesis) {
      return [{ ...common, type: "scatter", mode: "markers",
        marker: { color: colour, size: 12, symbol: "diamond-open", line: { width: 2 } } }];
    }
    if (chart.bars) {
      // One value has no spread: null draws no caps.
      const spread = (ends) => series.y.map((y, i) => series.count[i] > 1 ? Math.abs(ends[i] - y) : null);
      const error = { type: "data", symmetric: false, visible: series.count.some((count) => count > 1),
        array: spread(series.high), arrayminus: spread(series.low), color: look.ink, thickness: 1.2, width: 3 };
      const shape = pick(PATTERNS, series.dash);
      const marker = series.thesis
        ? { color: look.paper, line: { color: colour, width: 1.5 },
          pattern: { shape, bgcolor: look.paper, fgcolor: colour, size: 6 } }
        : { color: colour, pattern: { shape, bgcolor: colour, fgcolor: look.paper, size: 7, solidity: 0.2 } };
      return [{ ...common, type: "bar", marker, ...(series.thesis ? {} : { error_y: error }) }];
    }
    const line = { ...common, type: "scatter", mode: "lines+markers",
      line: { color: colour, width: 2, dash: series.thesis ? "dot" : pick(DASHES, series.dash) },
      marker: { color: colour, size: 7, symbol: series.thesis ? "diamond-open" : pick(SYMBOLS, series.colour) } };
    if (series.thesis || series.y.length < 2) return [line];
    const band = { type: "scatter", mode: "lines", x: [...x, ...[...x].reverse()],
      y: [...series.high, ...[...series.low].reverse()], fill: "toself", fillcolor: faded(colour),
      line: { width: 0, color: colour }, hoverinfo: "skip", showlegend: false, legendgroup: plain(series.name) };
    return [band, line];
  });

  // Parts of a chart have the same axis, with a little room.
  const range = ({ log, reach: [low, high] }) =>
    log ? [Math.log10(low * 0.8), Math.log10(high * 1.25)] : [Math.min(0, low), high * 1.05];

  const layout = (chart, look, width) => {
    const longest = Math.max(...chart.series.map((series) => series.name.length));
    const columns = Math.max(1, Math.floor(width / (longest * 6.4 + 56)));
    const size = Math.max(8.5, Math.min(12, (width - 56) / (longest * 0.58)));
    const legend = 21 * Math.ceil(chart.series.length / columns);
    const tilted = chart.bars && width / chart.categories.length < 110;
    const axis = { color: look.soft, gridcolor: look.grid, linecolor: look.line, zerolinecolor: look.line,
      automargin: true, tickfont: { color: look.soft }, title: { font: { color: look.ink, size: 13 }, standoff: 8 } };
    return {
      height: (width < 640 ? 360 : 340) + legend + (tilted ? 60 : 0),
      margin: { l: 48, r: 10, t: 34, b: 44 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: look.ink },
      barmode: "group", bargap: 0.22, bargroupgap: 0.06, dragmode: width < 640 ? false : "zoom", hovermode: "closest",
      hoverlabel: { bgcolor: look.paper, bordercolor: look.line, font: { color: look.ink }, align: "left" },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: look.soft, activecolor: look.accent },
      showlegend: true,
      legend: { orientation: "h", x: 0, xref: "container", xanchor: "left", y: 0, yref: "container", yanchor: "bottom",
        font: { size },
        traceorder: "normal", itemsizing: "trace" },
      xaxis: { ...axis, title: { ...axis.title, text: plain(chart.x_label) },
        ...(chart.bars ? { type: "category", categoryorder: "array", categoryarray: chart.categories.map(plain),
          tickangle: tilted ? -35 : 0, showgrid: false } : { rangemode: "tozero", tickformat: ",~g" }) },
      yaxis: { ...axis, title: { ...axis.title, text: plain(chart.y_label) }, tickformat: ",~g",
        ...(chart.log ? { type: "log", dtick: width < 640 ? 1 : "D2" } : { rangemode: "tozero" }),
        ...(chart.reach ? { range: range(chart) } : {}) },
    };
  };

  const config = { displaylogo: false, responsive: true, scrollZoom: false, plotlyServerURL: "",
    modeBarButtons: [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"]] };

  const draw = () => {
    const look = colours();
    for (const chart of charts) {
      const place = document.getElementById("plot-" + chart.key);
      const options = { ...config, toImageButtonOptions: { format: "svg", filename: chart.key } };
      Plotly.react(place, traces(chart, look), layout(chart, look, place.clientWidth), options);
    }
  };

  document.addEventListener("look", draw);
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    // A phone's address bar changes the height only.
    if (window.innerWidth !== width) { width = window.innerWidth; draw(); }
  });
  // On paper the still pictures are better: they do not depend on the window.
  window.addEventListener("beforeprint", () => {
    for (const still of document.querySelectorAll("figure > noscript")) {
      if (still.nextElementSibling?.classList.contains("static")) continue;
      const copy = document.createElement("div");
      copy.className = "static";
      copy.innerHTML = still.textContent;
      still.after(copy);
    }
  });
  draw();
})();
