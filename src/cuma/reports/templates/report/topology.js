"use strict";
// Groups by the experts that serve them: a map in three spaces, every gate, the nearest groups, and the tests by layer.
page.add(() => {
  const { methods, answers, topology, groupOf, at, colour, percent, escape, element, fill, axis, draw, heatCell } = page;
  const { isScale, position, positionName, positionText } = page;
  const SPACES = [["gates", "the experts that serve them"], ["answers", "what their people answer"], ["embeddings", "their profiles’ embeddings"]];
  const mixture = () => topology[Number(at("topology-method")?.value ?? 0)];
  const spaces = () => (mixture().learned ? SPACES : SPACES.slice(0, 1));

  // Parts of labels that several groups share ("strong Democrat"): what a reader may want to find on the map.
  function labelParts() {
    const count = new Map();
    for (const group of answers.groups) for (const part of group.label.split(", ")) count.set(part, (count.get(part) ?? 0) + 1);
    return [...count].filter(([, n]) => n > 1 && n < answers.groups.length).map(([part]) => part).sort();
  }

  function drawMap() {
    const entry = mixture();
    const [space, words] = spaces()[Number(at("topology-space").value)];
    const { positions, explained } = space === "gates" ? entry : entry.learned.maps[space];
    const number = Number(at("topology-question").value);
    const question = answers.questions[number];
    const mark = at("topology-mark").selectedOptions[0];
    const marked = (label) => mark.value === "0" || label.split(", ").includes(mark.textContent);
    const cells = entry.groups.map((label) => groupOf[label].cells[number]);
    at("topology-asked").textContent = `${question.text} Colour: ${positionName(question)}, among people; grey where it may not be shown.`;
    const known = cells.filter(Boolean).map((cell) => position(question, cell.people));
    const named = at("map").clientWidth > 700 && entry.groups.every((label) => label.length <= 24); // such as countries
    const sides = [true, false].map((seen) => {
      const kept = entry.groups.map((_, i) => i).filter((i) => groupOf[entry.groups[i]].seen === seen && positions[i]);
      return {
        type: "scatter", mode: named ? "markers+text" : "markers", textfont: { size: 10 },
        x: kept.map((i) => positions[i][0]), y: kept.map((i) => positions[i][1]),
        text: kept.map((i) => escape(entry.groups[i])),
        customdata: kept.map((i) => {
          const said = cells[i] ? `people: ${positionText(question, cells[i].people)} ${cells[i].n === null ? "" : `(n ${cells[i].n})`}` : "too few people";
          return `${escape(entry.groups[i]).replace(/, /g, ",<br>")}<br>${seen ? "seen" : "unseen"} · ${said}`;
        }),
        hovertemplate: "%{customdata}<extra></extra>",
        marker: {
          symbol: seen ? "circle" : "diamond", size: seen ? 12 : 13, opacity: kept.map((i) => (marked(entry.groups[i]) ? 1 : 0.13)),
          color: kept.map((i) => (cells[i] ? position(question, cells[i].people) : null)), cmin: Math.min(...known), cmax: Math.max(...known), colorscale: "Cividis",
          line: { color: colour("ink"), width: seen ? 0.8 : 2 }, showscale: seen,
          colorbar: { thickness: 10, len: 0.6, outlinewidth: 0, tickformat: isScale(question) ? ".1f" : ".0%", nticks: 5 },
        },
      };
    });
    const [first, second] = explained;
    const label = (name, share) => ({ text: `${name} axis, ${percent(share)} of variance`, standoff: 6 });
    const bare = { showticklabels: false, showgrid: true };
    draw("map", sides, {
      margin: { l: 28, r: 10, t: 10, b: 34 },
      xaxis: axis({ ...bare, title: label("first", first) }),
      yaxis: axis({ ...bare, title: label("second", second), scaleanchor: "x" }),
    }, `${methods[entry.method].label}: groups by ${words}`);
    if (named) spreadLabels();
    const turned = space === "gates" ? "" : " Turned to lie like the map of gates.";
    at("map-caption").textContent =
      `${entry.groups.length} groups by ${words}; the two axes hold ${percent(first + second)} of the variance between groups.${turned} Circles: seen groups; diamonds: unseen groups. Point at or tap a mark for its group.`;
    at("map").setAttribute("aria-label", `Map of ${entry.groups.length} groups by ${words}, in ${methods[entry.method].label}. ${entry.sentence}`);
    at("topology-sentence").textContent = [entry.sentence, ...(entry.learned?.sentences ?? [])].join(" ");
  }

  // Names that would lie on another name or on a mark go to another side of their mark, or are told at the mark alone.
  function spreadLabels() {
    const { xaxis, yaxis } = at("map")._fullLayout;
    const pen = document.createElement("canvas").getContext("2d");
    pen.font = "10px system-ui, sans-serif";
    const marks = at("map").data.flatMap((trace) => trace.x.map((x, i) => ({ trace, i, x: xaxis.l2p(x), y: yaxis.l2p(trace.y[i]) })));
    const taken = marks.map(({ x, y }) => [x - 7, y - 7, x + 7, y + 7]);
    const sides = { "top center": [0, -15], "bottom center": [0, 15], "middle right": [1, 0], "middle left": [-1, 0] };
    const placed = new Map(at("map").data.map((trace) => [trace, { text: trace.x.map(() => ""), textposition: trace.x.map(() => "top center") }]));
    for (const { trace, i, x, y } of marks) {
      const name = trace.text[i], width = pen.measureText(name).width;
      for (const [side, [across, down]] of Object.entries(sides)) {
        const middle = [x + across * (width / 2 + 10), y + down];
        const box = [middle[0] - width / 2 - 2, middle[1] - 7, middle[0] + width / 2 + 2, middle[1] + 7];
        const free = box[0] > 0 && box[2] < xaxis._length && box[1] > 0 && box[3] < yaxis._length
          && !taken.some((other, mark) => marks[mark]?.i === i && marks[mark]?.trace === trace ? false : box[0] < other[2] && box[2] > other[0] && box[1] < other[3] && box[3] > other[1]);
        if (!free) continue;
        taken.push(box);
        placed.get(trace).text[i] = name;
        placed.get(trace).textposition[i] = side;
        break;
      }
    }
    const found = [...placed.values()];
    Plotly.restyle("map", { text: found.map((each) => each.text), textposition: found.map((each) => each.textposition) });
  }

  function drawHeat() {
    const entry = mixture();
    const gates = entry.gates[Number(at("topology-layer").value)];
    const largest = Math.max(...gates.flat());
    const head = element("tr", {}, element("th", { textContent: "Group", scope: "col" }),
      ...gates[0].map((_, expert) => element("th", { textContent: `E${expert + 1}`, scope: "col", title: `Expert ${expert + 1}` })));
    head.firstChild.style.textAlign = "left";
    const rows = entry.groups.map((label, i) => {
      const row = element("tr", { className: groupOf[label].seen ? "seen" : "unseen" }, element("th", { textContent: label, scope: "row" }));
      row.append(...gates[i].map((gate) => heatCell(gate, largest, Math.round(gate / 10) || "")));
      return row;
    });
    at("heat").replaceChildren(element("caption", { textContent: `${methods[entry.method].label}: ${entry.layers[Number(at("topology-layer").value)]}` }),
      element("thead", {}, head), element("tbody", {}, ...rows));
  }

  function drawNeighbours() {
    const entry = mixture();
    const near = entry.learned?.neighbours;
    const group = Number(at("neighbours-group").value);
    const named = (space) => near?.[space][group] ?? [];
    const shared = new Set(named("gates").filter((i) => named("answers").includes(i)));
    at("neighbours").replaceChildren(...(near ? SPACES : []).map(([space, words]) => element("div", {},
      element("h4", { textContent: `By ${words}` }),
      element("ol", {}, ...named(space).map((i) => element("li", { textContent: entry.groups[i], className: shared.has(i) ? "shared" : "" }))))));
  }

  function drawLayers() {
    const layers = mixture().learned?.layers ?? [];
    const lines = [["answers", "reference", "circle", "people’s answers"], ["embeddings", "rival-1", "square", "embeddings"]];
    const traces = lines.map(([key, ink, symbol, name]) => ({
      type: "scatter", mode: "markers+lines", name, x: layers.map((row) => row.layer), y: layers.map((row) => row[key]?.correlation ?? null),
      marker: { color: colour(ink), symbol, size: 10 }, line: { color: colour(ink), width: 1.5 },
      hovertemplate: `%{x}, ${name}: %{y:.2f}<extra></extra>`,
    }));
    const high = layers.map((row) => Math.max(row.answers?.high ?? 0, row.embeddings?.high ?? 0));
    const chance = { type: "scatter", mode: "lines", x: layers.map((row) => row.layer), y: high, name: "chance, upper end", hoverinfo: "skip",
      line: { color: colour("soft"), width: 1.2, dash: "dash" } };
    draw("layers", [...traces, chance], {
      margin: { l: 42, r: 12, t: 30, b: 60 }, showlegend: true, legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
      xaxis: axis({ showgrid: false, tickangle: layers.length > 6 ? -45 : 0 }), yaxis: axis({ range: [-0.3, 1], nticks: 6, title: { text: "rank correlation", standoff: 4 } }),
    }, `${methods[mixture().method].label}: gate distances against others, by layer`);
  }

  function fillMixture() {
    const entry = mixture();
    fill(at("topology-space"), spaces().map(([, words]) => words));
    fill(at("topology-layer"), entry.layers);
    fill(at("neighbours-group"), entry.groups);
    at("learned").hidden = !entry.learned;
  }

  function drawAll() {
    drawMap();
    drawHeat();
    drawNeighbours();
    if (mixture().learned) drawLayers();
  }

  if (at("topology-method")) {
    fill(at("topology-method"), topology.map((entry) => methods[entry.method].label));
    at("topology-method").onchange = () => { fillMixture(); drawAll(); };
  }
  fillMixture();
  const parts = labelParts();
  fill(at("topology-question"), page.questionNames, answers.start.question);
  fill(at("topology-mark"), ["all groups", ...parts]);
  at("topology-mark-label").hidden = parts.length === 0;
  for (const id of ["topology-space", "topology-question", "topology-mark"]) at(id).onchange = drawMap;
  at("topology-layer").onchange = drawHeat;
  at("neighbours-group").onchange = drawNeighbours;
  return drawAll;
});
