"use strict";
// Figures over training steps, labelled at the end of each line: how good the answers were, and what the trainer logged.
page.add(() => {
  const { methods, panels, at, colour, escape, element, axis, draw, cut } = page;

  function spaced(labels, height, range) {
    const perPixel = range / height;
    labels.sort((a, b) => a.y - b.y);
    labels.forEach((label, i) => { label.at = Math.max(label.y, i ? labels[i - 1].at + 14 * perPixel : 0); });
    const over = labels.length ? labels.at(-1).at - range : 0;
    if (over > 0) {
      labels.at(-1).at -= over;
      for (let i = labels.length - 2; i >= 0; i -= 1) labels[i].at = Math.min(labels[i].at, labels[i + 1].at - 14 * perPixel);
    }
    return labels;
  }

  function drawCurves() {
    panels.forEach((panel, i) => {
      const narrow = at(`curve-${i}`).clientWidth < 460;
      const margin = { l: 42, r: narrow ? 132 : 186, t: 10, b: 38 };
      const last = Math.max(...panel.series.flatMap((line) => line.steps));
      const values = [...panel.series.flatMap((line) => line.values), ...panel.lines.map((line) => line.value)];
      const top = 1.06 * Math.max(...values) || 1;
      const low = Math.min(0, ...values);
      const labels = [
        ...panel.series.map((line) => ({ y: line.values.at(-1), text: methods[line.method].label, ink: methods[line.method].colour })),
        ...panel.lines.map((line) => ({ y: line.value, text: line.label, ink: line.kind === "floor" ? "soft" : "anchor" })),
      ];
      const traces = panel.series.map((line) => ({
        type: "scatter", mode: "lines+markers", x: line.steps, y: line.values, name: methods[line.method].label,
        line: { color: colour(methods[line.method].colour), width: methods[line.method].role === "reference" ? 4 : 2 },
        marker: { size: methods[line.method].role === "reference" ? 7 : 5 },
        hovertemplate: `${escape(methods[line.method].label)}<br>step %{x}: %{y:.3f}<extra></extra>`, cliponaxis: false,
      }));
      draw(`curve-${i}`, traces, {
        margin, hovermode: "closest",
        xaxis: axis({ range: [0, last], nticks: 5, title: { text: "training steps", standoff: 4 }, showgrid: false, ticks: "outside" }),
        yaxis: axis({ range: [low, top], nticks: 6 }),
        shapes: panel.lines.map((line) => ({
          type: "line", xref: "paper", x0: 0, x1: 1, y0: line.value, y1: line.value, layer: "below",
          line: { color: colour(line.kind === "floor" ? "soft" : "anchor"), width: 1.3, dash: line.kind === "floor" ? "dash" : "dot" },
        })),
        annotations: spaced(labels, at(`curve-${i}`).clientHeight - margin.t - margin.b, top).flatMap((label) => [{
          xref: "paper", x: 1, xanchor: "left", xshift: 14, y: label.at, yanchor: "middle", showarrow: false, align: "left",
          text: `<span style="color:${colour(label.ink)}">●</span> ${escape(cut(label.text, narrow ? 17 : 26))}`,
          font: { size: narrow ? 10.5 : 12, color: colour(label.ink === "anchor" || label.ink === "soft" ? "soft" : "ink") },
        }]),
      }, panel.title);
    });
  }

  panels.forEach((panel, i) => {
    const ends = panel.series.map((line) => `${methods[line.method].label} ends at ${line.values.at(-1).toFixed(2)}`).join(", ");
    const chart = element("div", { className: "chart", id: `curve-${i}` });
    chart.setAttribute("role", "img");
    chart.setAttribute("aria-label", `${panel.title}, against training steps: ${ends}.`);
    at(panel.box).append(element("figure", {}, element("figcaption", { textContent: panel.title }), chart));
  });
  return drawCurves;
});
