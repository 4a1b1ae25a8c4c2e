"use strict";
// The first picture: predicted against true shares, one cloud a method.
page.add(() => {
  const { methods, answers, at, colour, escape, fill, axis, draw, isScale, position, positionName, positionText } = page;

  function drawClouds() {
    const number = Number(at("collapse-question").value);
    const question = answers.questions[number];
    at("collapse-asked").textContent = `${question.text} Shown: ${positionName(question)}.`;
    const asked = answers.groups.filter((group) => group.cells[number]);
    const ticks = { tickvals: [0, 0.5, 1], ticktext: isScale(question) ? ["0", "½", "1"] : ["0", "50", "100%"] };
    methods.forEach((method, i) => {
      const shown = asked.filter((group) => group.cells[number].methods[i]);
      const ink = colour(method.colour);
      const points = {
        type: "scatter", mode: "markers",
        x: shown.map((group) => position(question, group.cells[number].people)),
        y: shown.map((group) => position(question, group.cells[number].methods[i])),
        text: shown.map((group) => {
          const cell = group.cells[number];
          return `${escape(group.label)}<br>people ${positionText(question, cell.people)}${cell.n === null ? "" : ` (n ${cell.n})`}, predicted ${positionText(question, cell.methods[i])}`;
        }),
        hovertemplate: "%{text}<extra></extra>",
        marker: {
          size: 7, opacity: 0.85, color: shown.map((group) => (group.seen ? ink : colour("paper"))), line: { color: ink, width: 1.6 },
        },
        cliponaxis: false,
      };
      draw(`collapse-${i}`, [points], {
        margin: { l: 46, r: 20, t: 8, b: 36 },
        xaxis: axis({ range: [0, 1], ...ticks, title: { text: "people", standoff: 3, font: { size: 11 } } }),
        yaxis: axis({ range: [0, 1], ...ticks, title: { text: "predicted", standoff: 3, font: { size: 11 } } }),
        shapes: [{ type: "line", x0: 0, y0: 0, x1: 1, y1: 1, line: { color: colour("soft"), width: 1 }, layer: "below" }],
      }, `${method.label}: ${question.text}`);
    });
  }

  fill(at("collapse-question"), page.questionNames, answers.start.question);
  at("collapse-question").onchange = drawClouds;
  return drawClouds;
});
