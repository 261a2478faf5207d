// Charts are drawn when they come into sight: plotly is large, and on a slow line what is live has to come first.
"use strict";

const library = document.currentScript.dataset.library;
let loading = null;
const plotly = () => {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    Object.assign(script, { src: library, onload: resolve, onerror: reject });
    document.head.append(script);
  });
  return loading;
};

// Calls `draw` once, when the place is nearly in sight and plotly is there.
const whenSeen = (place, draw) => {
  const watch = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    watch.disconnect();
    plotly().then(draw);
  }, { rootMargin: "200px" });
  watch.observe(place);
};
