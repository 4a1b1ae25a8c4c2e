"use strict";
// The heat map. The numbers come from the JSON element "data"; nothing is fetched.
(() => {
  const { groups, clusters, jsd } = JSON.parse(document.getElementById("data").textContent);
  const at = document.getElementById("heat");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const escape = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");
  const cut = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);
  const places = groups.map((_, i) => i);

  function draw() {
    const width = Math.min(at.clientWidth, 900), narrow = width < 600;
    const longest = Math.min(narrow ? 14 : 30, Math.max(...groups.map((name) => name.length)));
    const letters = longest * 6.2 + 12, few = groups.length <= (narrow ? 18 : 40);
    const names = groups.map((name) => escape(cut(name, longest)));
    const left = few ? letters : 24, side = width - left - 74;
    const borders = clusters === null ? [] : places.slice(1).filter((i) => clusters[i] !== clusters[i - 1]);
    const line = { color: colour("ink"), width: 1.5 };
    const shapes = borders.flatMap((i) => [
      { type: "line", x0: i - 0.5, x1: i - 0.5, y0: -0.5, y1: groups.length - 0.5, line },
      { type: "line", y0: i - 0.5, y1: i - 0.5, x0: -0.5, x1: groups.length - 0.5, line },
    ]);
    const axis = {
      showgrid: false, zeroline: false, fixedrange: true, showticklabels: few, tickvals: places, ticktext: names, ticks: "",
      range: [-0.5, groups.length - 0.5],
    };
    Plotly.react(at, [{
      type: "heatmap", z: jsd.map((row) => row.map((value) => (value === null ? null : Math.max(value, 0)))), zmin: 0,
      zmax: Math.max(0.02, ...jsd.flat().filter((value) => value !== null)),
      colorscale: [[0, colour("paper")], [0.5, colour("rival-1")], [1, colour("ink")]], hoverongaps: false, xgap: few ? 1 : 0, ygap: few ? 1 : 0,
      text: jsd.map((row, i) => row.map((value, j) => `${escape(groups[i])}<br>${escape(groups[j])}<br>${value === null ? "" : value.toFixed(3)} nats`)),
      hovertemplate: "%{text}<extra></extra>",
      colorbar: { title: { text: "nats" }, thickness: 12, outlinewidth: 0, len: 0.9 },
    }], {
      width, height: Math.max(side, 160) + left + 16, margin: { l: left, r: 74, t: 10, b: left + 6 }, shapes, dragmode: false,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: colour("rule"), font: { family: "system-ui, sans-serif", size: 11, color: colour("soft") },
      hoverlabel: { font: { color: colour("ink") }, bgcolor: colour("paper"), align: "left" },
      xaxis: { ...axis, tickangle: -90 }, yaxis: { ...axis, range: [groups.length - 0.5, -0.5] },
    }, { displayModeBar: false, responsive: false, doubleClick: false });
  }

  draw();
  window.addEventListener("resize", draw);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
