"use strict";
// One dot and interval a method for each corner, on one scale; the noise floor and everybody's average as lines.
page.add(() => {
  const { methods, corners, at, colour, escape, axis, draw, cut } = page;
  const ends = corners.flatMap((corner) => [corner.floor, corner.average, ...corner.rows.flatMap((row) => [row.value, row.high])]);
  const top = 1.04 * Math.max(...ends.filter((end) => end !== null)) || 1;

  return () => corners.forEach((corner, i) => {
    const narrow = at(`corner-${i}`).clientWidth < 460;
    const names = corner.rows.map((row) => `${escape(cut(methods[row.method].label, narrow ? 18 : 28))}`);
    const traces = corner.rows.map((row, place) => {
      const { label, role, colour: ink } = methods[row.method];
      const interval = row.low === null ? "" : ` [${row.low.toFixed(3)}, ${row.high.toFixed(3)}]`;
      return {
        type: "scatter", mode: "markers", x: [row.value], y: [place], cliponaxis: false,
        marker: { size: role === "reference" ? 11 : 8, color: colour(ink) },
        error_x: { type: "data", symmetric: false, array: [row.low === null ? 0 : row.high - row.value], arrayminus: [row.low === null ? 0 : row.value - row.low], color: colour(ink), thickness: role === "reference" ? 3 : 1.6, width: 0 },
        hovertemplate: `${escape(label)}<br>${row.value.toFixed(3)}${interval}<extra></extra>`,
      };
    });
    const line = (value, dash, ink) => (value === null ? [] : [{
      type: "line", x0: value, x1: value, yref: "paper", y0: 0, y1: 1, layer: "below", line: { color: colour(ink), width: 1.5, dash },
    }]);
    draw(`corner-${i}`, traces, {
      margin: { l: narrow ? 118 : 178, r: 14, t: 6, b: 40 },
      xaxis: axis({ range: [0, top], nticks: 6, title: { text: "soft EMD", standoff: 4 }, ticks: "outside" }),
      yaxis: axis({ range: [corner.rows.length - 0.4, -0.6], tickvals: names.map((_, place) => place), ticktext: names, showgrid: false }),
      shapes: [...line(corner.floor, "dash", "soft"), ...line(corner.average, "dot", "anchor")],
    });
  });
});
