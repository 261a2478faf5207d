// Charts of runs and reports, drawn by plotly from the numbers in the page, in the page's own colours and language.
"use strict";

const paint = (name) => {
  // light-dark() has to be computed by an element; the variable alone is only its text.
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
};

const ground = (more) => ({
  paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
  font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: paint("--muted") },
  margin: { l: 64, r: 64, t: 8, b: 40 }, hoverlabel: { bgcolor: paint("--raised"), font: { color: paint("--text") } },
  // Above the plot, which gives way to as many lines as it takes.
  legend: { orientation: "h", xref: "container", yref: "container", x: 0, y: 1, yanchor: "top" }, barmode: "group", ...more,
});
const axis = (more) => ({ gridcolor: paint("--line"), zerolinecolor: paint("--line"), linecolor: paint("--line"), automargin: true, ...more });
// On a telephone the plot needs the room more than long names do; they stand whole in the table.
const named = (names) => axis({
  autorange: "reversed",
  ...(innerWidth < 600 && { tickvals: names, ticktext: names.map((name) => name.length > 20 ? `${name.slice(0, 19)}…` : name) }),
});
const titled = (text) => ({ text, font: { size: 11 } });

const FIGURES = {
  // A month below what is wanted is the first to be seen: marked, named, and never on the edge.
  trend: ({ months, outage, success, wanted, words }) => {
    const missed = success.map((share) => share !== null && share < wanted);
    const lowest = 5 * Math.floor(Math.min(wanted - 5, ...success.filter((share) => share !== null)) / 5);
    const step = [1, 2, 5, 10, 20].find((size) => (100 - lowest) / size <= 6);
    const names = months.flatMap((month, i) => missed[i] ? [{
      x: month, y: success[i], yref: "y2", text: `${Math.floor(success[i] * 10) / 10} %`, showarrow: false, yshift: -18,
      font: { color: paint("--bad"), size: 12 }, bgcolor: paint("--raised"), bordercolor: paint("--bad"), borderpad: 2,
    }] : []);
    return [
      [
        { type: "bar", x: months, y: outage, name: words.outage, marker: { color: paint("--outage") } },
        {
          x: months, y: success, name: words.success, yaxis: "y2", mode: "lines+markers", connectgaps: false, cliponaxis: false, line: { color: paint("--good") },
          marker: {
            color: missed.map((bad) => paint(bad ? "--bad" : "--good")), symbol: missed.map((bad) => bad ? "x" : "circle"),
            size: missed.map((bad) => bad ? 12 : 7), line: { color: paint("--raised"), width: 1.5 },
          },
        },
        { x: months, y: months.map(() => wanted), name: words.wanted, yaxis: "y2", mode: "lines", line: { color: paint("--muted"), dash: "dot", width: 1 }, hoverinfo: "skip" },
      ],
      ground({
        annotations: names, xaxis: axis({ type: "category" }), yaxis: axis({ title: titled(words.outage), rangemode: "tozero" }),
        yaxis2: axis({ title: titled(words.success), overlaying: "y", side: "right", range: [lowest - (100 - lowest) / 4, 100 + (100 - lowest) / 12], tick0: 100, dtick: step, showgrid: false }),
      }),
    ];
  },

  // Before is 1, so that fast and slow queries stand side by side; the whiskers are the interval.
  queries: ({ names, before, after, low, high, bad, words }) => [
    [
      { type: "bar", orientation: "h", y: names, x: before, name: words.before, marker: { color: paint("--field") } },
      {
        type: "bar", orientation: "h", y: names, x: after, name: words.after, marker: { color: bad.map((x) => paint(x ? "--bad" : "--good")) },
        error_x: { type: "data", symmetric: false, array: after.map((x, i) => high[i] === null ? 0 : high[i] - x), arrayminus: after.map((x, i) => low[i] === null ? 0 : x - low[i]), color: paint("--text"), thickness: 1.5, width: 4 },
      },
    ],
    ground({ xaxis: axis({ title: titled(words.axis), rangemode: "tozero" }), yaxis: named(names) }),
  ],

  sizes: ({ names, before, after, words }) => [
    [
      { type: "bar", orientation: "h", y: names, x: before, name: words.before, marker: { color: paint("--field") } },
      { type: "bar", orientation: "h", y: names, x: after, name: words.after, marker: { color: paint("--good") } },
    ],
    ground({ xaxis: axis({ title: titled(words.axis), rangemode: "tozero", tickformat: "~s" }), yaxis: named(names) }),
  ],

  steps: ({ names, begins, seconds, bad, outage, words }) => [
    [{
      type: "bar", orientation: "h", y: names, base: begins, x: seconds, showlegend: false,
      marker: { color: bad.map((x) => paint(x ? "--bad" : "--accent")) }, text: words.told, textposition: "none", hovertemplate: "%{text}<extra></extra>",
    }],
    ground({
      xaxis: axis({ title: titled(words.axis) }), yaxis: named(names), barmode: "overlay",
      shapes: outage ? [{ type: "rect", xref: "x", yref: "paper", x0: outage[0], x1: outage[1], y0: 0, y1: 1, fillcolor: paint("--outage"), opacity: .18, line: { width: 0 }, layer: "below" }] : [],
      annotations: outage ? [{ x: outage[0], y: 1, yref: "paper", xanchor: "left", yanchor: "bottom", text: words.outage, showarrow: false, font: { color: paint("--outage") } }] : [],
      margin: { l: 64, r: 24, t: 24, b: 40 },
    }),
  ],

  latency: ({ names, p50, p95, words }) => [
    [
      { type: "bar", x: names, y: p50, name: words.p50, marker: { color: paint("--field") } },
      { type: "bar", x: names, y: p95, name: words.p95, marker: { color: paint("--accent") } },
    ],
    ground({ xaxis: axis({ type: "category" }), yaxis: axis({ title: titled(words.axis), rangemode: "tozero" }) }),
  ],
};

const show = (place) => {
  const told = JSON.parse(document.getElementById(place.dataset.figure).textContent);
  const [traces, layout] = FIGURES[told.kind](told);
  Plotly.react(place, traces, layout, { displayModeBar: false, responsive: true });
  place.dataset.drawn = "yes";
};
const expect = () => {
  for (const place of document.querySelectorAll("[data-figure]:not([data-expected])")) {
    place.dataset.expected = "yes";
    whenSeen(place, () => show(place));
  }
};
expect();
// A run that ends while somebody looks brings its charts with the last fragment.
document.addEventListener("htmx:afterRequest", expect);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.querySelectorAll("[data-drawn]").forEach(show));
