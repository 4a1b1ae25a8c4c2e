"use strict";
// One dot and interval a method for each corner, on one scale, its figures under its name; the noise floor and everybody's
// average as lines.
page.add(() => {
  const { methods, corners, at, colour, escape, axis, draw, cut } = page;
  const ends = corners.flatMap((corner) => [corner.floor, corner.average, ...corner.rows.flatMap((row) => [row.value, row.high])]);
  const top = 1.04 * Math.max(...ends.filter((end) => end !== null)) || 1;

  function lines(text, width) {
    const made = [""];
    text.split(" ").forEach((word) => {
      if (made.at(-1) && made.at(-1).length + 1 + word.length > width) made.push("");
      made.push(`${made.pop()} ${word}`.trim());
    });
    return made.map((line) => escape(cut(line, width)));
  }

  return () => corners.forEach((corner, i) => {
    const width = at(`corner-${i}`).clientWidth < 460 ? 20 : 28;
    const names = corner.rows.map((row) => lines(methods[row.method].label, width));
    const height = 22 + 13 * Math.max(...names.map((name) => name.length));
    at(`corner-${i}`).style.height = `${76 + height * names.length}px`;
    const traces = corner.rows.map((row, place) => {
      const { label, role, colour: ink } = methods[row.method];
      return {
        type: "scatter", mode: "markers", x: [row.value], y: [place], cliponaxis: false,
        marker: { size: role === "reference" ? 11 : 8, color: colour(ink) },
        error_x: { type: "data", symmetric: false, array: [row.low === null ? 0 : row.high - row.value], arrayminus: [row.low === null ? 0 : row.value - row.low], color: colour(ink), thickness: role === "reference" ? 3 : 1.6, width: 0 },
        hovertemplate: `${escape(label)}<br>${row.text}<extra></extra>`,
      };
    });
    const marks = [["floor", corner.floor, "dash", "soft", 0], ["average", corner.average, "dot", "anchor", 12]].filter((mark) => mark[1] !== null);
    draw(`corner-${i}`, traces, {
      margin: { l: 7.2 * width + 8, r: 14, t: 30, b: 40 },
      xaxis: axis({ range: [0, top], nticks: 5, title: { text: "soft EMD", standoff: 4 }, ticks: "outside" }),
      yaxis: axis({
        range: [corner.rows.length - 0.4, -0.6], tickvals: names.map((_, place) => place), showgrid: false,
        ticktext: names.map((name, place) => `${name.join("<br>")}<br>${corner.rows[place].text.replace(/^\S+/, "<b>$&</b>")}`),
      }),
      shapes: marks.map(([, x, dash, ink]) => ({ type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, layer: "below", line: { color: colour(ink), width: 1.5, dash } })),
      annotations: marks.map(([name, x, , , up]) => ({ text: `${name} ${x.toFixed(3)}`, x, y: 1, yref: "paper", yanchor: "bottom", yshift: up, showarrow: false, font: { size: 11, color: colour("soft") } })),
    }, corner.title);
  });
});
