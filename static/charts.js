// State of a database over time, drawn by plotly from the page's own server, in the page's own colours.
"use strict";

const token = (name) => {
  // light-dark() has to be computed by an element; the variable alone is only its text.
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
};

const ROWS = [
  ["health", "health", [0, 102], [0.78, 1]],
  ["size", "size_bytes", undefined, [0.52, 0.74]],
  ["connections", "connections", undefined, [0.26, 0.48]],
  ["latency", "p95_ms", undefined, [0, 0.22]],
];

const draw = (place, data) => {
  const text = token("--text"), muted = token("--muted"), line = token("--line");
  const traces = [], layout = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "x",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: muted },
    margin: { l: 64, r: 12, t: 8, b: 32 }, hoverlabel: { bgcolor: token("--raised"), font: { color: text } },
    xaxis: { type: "date", anchor: "y4", tickformat: "%H:%M\n%Y-%m-%d", hoverformat: "%Y-%m-%d %H:%M:%S", gridcolor: line, linecolor: line },
    shapes: data.runs.map((run) => ({ type: "line", yref: "paper", x0: run.at, x1: run.at, y0: 0, y1: 1, line: { color: token("--outage"), width: 1, dash: "dot" } })),
  };
  traces.push({
    x: data.runs.map((run) => run.at), y: data.runs.map(() => 100), mode: "markers", name: "",
    marker: { symbol: "triangle-down", size: 9, color: token("--outage") },
    text: data.runs.map((run) => `${run.run}: ${run.status}`), hovertemplate: "%{text}<extra></extra>",
  });
  const columns = { ...data, p95_ms: data.latency.map((test) => test.p95_ms) };
  ROWS.forEach(([name, column, fixed, domain], index) => {
    const range = fixed || [0, 1.1 * Math.max(4, ...columns[column])];
    const axis = index ? `y${index + 1}` : "y";
    traces.push({
      x: column === "p95_ms" ? data.latency.map((test) => test.at) : data.measured_at, y: columns[column], yaxis: axis, name: place.dataset[name], mode: "lines+markers",
      line: { color: token("--accent"), width: 2 }, marker: { size: 5 }, connectgaps: false,
      hovertemplate: column === "size_bytes" ? "%{y:.3s}B" : "%{y}",
    });
    layout[index ? `yaxis${index + 1}` : "yaxis"] = {
      title: { text: place.dataset[name], font: { size: 11 } }, domain, range, rangemode: "tozero",
      gridcolor: line, zerolinecolor: line, tickformat: column === "size_bytes" ? "~s" : "",
    };
  });
  Plotly.react(place, traces, layout, { displayModeBar: false, responsive: true });
};

for (const place of document.querySelectorAll("[data-chart]")) {
  whenSeen(place, async () => {
    const data = await (await fetch(place.dataset.chart, { headers: { Accept: "application/json" } })).json();
    draw(place, data);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw(place, data));
  });
}
