"use strict";
// Cosines between groups' gradients, in one kind of parameters at a time.
page.add(() => {
  const { gradients, at, colour, escape, fill, draw, cut } = page;
  const choices = gradients.flatMap((entry) => entry.parts.map((part, i) => ({ entry, cosines: entry.cosines[i], name: `${entry.label}: ${part}` })));

  function drawCosines() {
    const { entry, cosines, name } = choices[Number(at("gradients-part").value)];
    const narrow = at("cosines").clientWidth < 600;
    const groups = entry.groups.map((group) => escape(cut(group, narrow ? 14 : 28)));
    const places = groups.map((_, i) => i);
    const few = groups.length <= 24;
    const bare = { showgrid: false, zeroline: false, fixedrange: true, ticks: "", showticklabels: few, tickvals: places, ticktext: groups, linecolor: colour("rule") };
    draw("cosines", [{
      type: "heatmap", z: cosines, x: places, y: places, zmin: -1, zmax: 1, xgap: 1, ygap: 1,
      colorscale: [[0, colour("reference")], [0.5, colour("paper")], [1, colour("rival-1")]],
      text: cosines.map((row, i) => row.map((value, j) => `${escape(entry.groups[i])}<br>${escape(entry.groups[j])}<br>${value === null ? "" : value.toFixed(2)}`)),
      hovertemplate: "%{text}<extra></extra>", colorbar: { thickness: 10, len: 0.8, outlinewidth: 0, title: { text: "cosine" } },
    }], {
      margin: { l: few ? (narrow ? 110 : 210) : 20, r: 10, t: 8, b: few ? (narrow ? 100 : 185) : 20 }, xaxis: { ...bare, tickangle: -60 }, yaxis: { ...bare, autorange: "reversed" },
    }, `Cosines between groups’ gradients, ${name}`);
    at("cosines").setAttribute("aria-label", `Cosines between the gradients of ${groups.length} groups. ${name}. ${entry.sentence}`);
  }

  fill(at("gradients-part"), choices.map((choice) => choice.name));
  at("gradients-part").onchange = drawCosines;
  return drawCosines;
});
