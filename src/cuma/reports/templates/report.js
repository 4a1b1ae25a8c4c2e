"use strict";
// Everything the page draws after it has loaded. The numbers come from the JSON element "data"; nothing is fetched.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { methods, answers, curves, topology } = data;
  const at = (id) => document.getElementById(id);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const percent = (share) => `${Math.round(100 * share)}\u00a0%`;
  const escape = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");
  const config = { displayModeBar: false, responsive: false, doubleClick: false };

  function element(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  function fill(select, labels, chosen = 0) {
    select.replaceChildren(...labels.map((label, i) => new Option(label, i, false, i === chosen)));
  }

  const axis = (more = {}) => ({
    fixedrange: true, zeroline: false, gridcolor: colour("rule"), linecolor: colour("soft"), tickcolor: colour("rule"), ...more,
  });

  function draw(id, traces, layout) {
    // Sizes are read here and redrawn on change: Plotly's own resizing comes too late for a page that is being printed.
    Plotly.react(id, traces, {
      width: at(id).clientWidth, height: at(id).clientHeight,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: false, showlegend: false, hovermode: "closest",
      font: { family: "system-ui, sans-serif", size: 12, color: colour("soft") },
      hoverlabel: { font: { family: "system-ui, sans-serif", color: colour("ink") }, bgcolor: colour("paper"), bordercolor: colour("soft"), align: "left" },
      ...layout,
    }, config);
  }

  // The number that stands for a distribution on an axis: the share of the first of two options, else the mean position.
  const position = (shares) =>
    shares.length === 2 ? shares[0] : shares.reduce((sum, share, i) => sum + (share * i) / (shares.length - 1), 0);
  const positionName = (question) =>
    question.options.length === 2 ? `share answering “${question.options[0]}”`
      : `mean answer, from “${question.options[0]}” (0) to “${question.options.at(-1)}” (1)`;
  const positionText = (question, shares) =>
    question.options.length === 2 ? percent(position(shares)) : position(shares).toFixed(2);
  const cut = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

  // 1. Predicted against true, one small picture a method -------------------------------------------------------------
  function drawCollapse() {
    const number = Number(at("collapse-question").value);
    const question = answers.questions[number];
    at("collapse-asked").textContent = `${question.text} Shown: ${positionName(question)}.`;
    const asked = answers.groups.filter((group) => group.cells[number]);
    const ticks = { tickvals: [0, 0.5, 1], ticktext: question.options.length === 2 ? ["0", "50", "100%"] : ["0", "½", "1"] };
    methods.forEach((method, i) => {
      const shown = asked.filter((group) => group.cells[number].methods[i]);
      const ink = colour(method.colour);
      const points = {
        type: "scatter", mode: "markers",
        x: shown.map((group) => position(group.cells[number].people)),
        y: shown.map((group) => position(group.cells[number].methods[i])),
        text: shown.map((group) => {
          const cell = group.cells[number];
          return `${escape(group.label)}<br>people ${positionText(question, cell.people)} (n ${cell.n}), predicted ${positionText(question, cell.methods[i])}`;
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
      });
    });
  }

  // 2. Bars of one group's answers ------------------------------------------------------------------------------------
  function barRow(label, role, ink, share, interval) {
    const track = element("span", { className: "bar-track" });
    const bar = element("i", { className: "fill" });
    bar.style.cssText = `width:${100 * share}%;--c:var(--${ink})`;
    const band = element("i", { className: "band" });
    band.style.cssText = `left:${100 * interval[0]}%;width:${100 * (interval[1] - interval[0])}%`;
    track.append(bar, band);
    return element("div", { className: `bar-row ${role}` },
      element("span", { className: "bar-label", textContent: label }), track, element("b", { textContent: percent(share) }));
  }

  function fillQuestions() {
    const group = answers.groups[Number(at("answers-group").value)];
    const before = Number(at("answers-question").value || answers.start.question);
    const asked = Object.keys(group.cells).map(Number);
    at("answers-question").replaceChildren(
      ...asked.map((number) => new Option(cut(answers.questions[number].text, 70), number, false, number === before)));
  }

  function drawAnswers() {
    const number = Number(at("answers-question").value);
    const group = answers.groups[Number(at("answers-group").value)];
    const cell = group.cells[number];
    const question = answers.questions[number];
    at("answers-asked").textContent = question.text;
    const top = cell.people.indexOf(Math.max(...cell.people));
    const interval = cell.interval[top].map(percent).join(" to ");
    const lead = methods.findIndex((method) => method.role === "reference");
    const said = cell.methods[lead] ? ` ${methods[lead].label} predicts ${percent(cell.methods[lead][top])}.` : "";
    at("answers-sentence").textContent =
      `Of ${cell.n} people in this ${group.seen ? "seen" : "unseen"} group, ${percent(cell.people[top])} (95 % interval ${interval}) say “${question.options[top]}”.${said}`;
    const options = question.options.length === 2 ? [0] : question.options.keys();
    at("answers").replaceChildren(...[...options].map((option) => element("div", {},
      element("h4", { textContent: `Share answering “${question.options[option]}”` }),
      barRow(`People (n ${cell.n})`, "people", "people", cell.people[option], cell.interval[option]),
      ...methods.flatMap((method, i) => cell.methods[i]
        ? [barRow(method.label, method.role, method.colour, cell.methods[i][option], cell.interval[option])] : []))));
  }

  // 3. Learning curves, labelled at the end of each line --------------------------------------------------------------
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
    curves.forEach((panel, i) => {
      const narrow = at(`curve-${i}`).clientWidth < 460;
      const margin = { l: 42, r: narrow ? 132 : 186, t: 10, b: 38 };
      const last = Math.max(...panel.series.flatMap((line) => line.steps));
      const values = [...panel.series.flatMap((line) => line.values), ...panel.lines.map((line) => line.value)];
      const top = 1.06 * Math.max(...values);
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
        yaxis: axis({ range: [0, top], nticks: 6 }),
        shapes: panel.lines.map((line) => ({
          type: "line", xref: "paper", x0: 0, x1: 1, y0: line.value, y1: line.value, layer: "below",
          line: { color: colour(line.kind === "floor" ? "soft" : "anchor"), width: 1.3, dash: line.kind === "floor" ? "dash" : "dot" },
        })),
        annotations: spaced(labels, at(`curve-${i}`).clientHeight - margin.t - margin.b, top).flatMap((label) => [{
          xref: "paper", x: 1, xanchor: "left", xshift: 14, y: label.at, yanchor: "middle", showarrow: false, align: "left",
          text: `<span style="color:${colour(label.ink)}">●</span> ${escape(cut(label.text, narrow ? 17 : 26))}`,
          font: { size: narrow ? 10.5 : 12, color: colour(label.ink === "anchor" || label.ink === "soft" ? "soft" : "ink") },
        }]),
      });
    });
  }

  function makeCurves() {
    at("curves").replaceChildren(...curves.map((panel, i) => {
      const ends = panel.series.map((line) => `${methods[line.method].label} ends at ${line.values.at(-1).toFixed(2)}`).join(", ");
      const chart = element("div", { className: "chart", id: `curve-${i}` });
      chart.setAttribute("role", "img");
      chart.setAttribute("aria-label", `${panel.title}, against training steps: ${ends}. All numbers are in the table below.`);
      return element("figure", {}, element("figcaption", { textContent: panel.title }), chart);
    }));
  }

  // 4. Routing --------------------------------------------------------------------------------------------------------
  const groupOf = Object.fromEntries(answers.groups.map((group) => [group.label, group]));
  const mixture = () => topology[Number(at("topology-method")?.value ?? 0)];

  // Parts of labels that several groups share ("strong Democrat"): what a reader may want to find on the map.
  function labelParts() {
    const count = new Map();
    for (const group of answers.groups) for (const part of group.label.split(", ")) count.set(part, (count.get(part) ?? 0) + 1);
    return [...count].filter(([, n]) => n > 1 && n < answers.groups.length).map(([part]) => part).sort();
  }

  function drawMap() {
    const entry = mixture();
    const number = Number(at("topology-question").value);
    const question = answers.questions[number];
    const mark = at("topology-mark").selectedOptions[0];
    const marked = (label) => mark.value === "0" || label.split(", ").includes(mark.textContent);
    const cells = entry.groups.map((label) => groupOf[label].cells[number]);
    at("topology-asked").textContent = `${question.text} Colour: ${positionName(question)}, among people; grey where it may not be shown.`;
    const known = cells.filter(Boolean).map((cell) => position(cell.people));
    const sides = [true, false].map((seen) => {
      const kept = entry.groups.map((_, i) => i).filter((i) => groupOf[entry.groups[i]].seen === seen);
      return {
        type: "scatter", mode: "markers",
        x: kept.map((i) => entry.positions[i][0]), y: kept.map((i) => entry.positions[i][1]),
        text: kept.map((i) => {
          const said = cells[i] ? `people: ${positionText(question, cells[i].people)} (n ${cells[i].n})` : "too few people";
          return `${escape(entry.groups[i]).replace(/, /g, ",<br>")}<br>${seen ? "seen" : "unseen"} · ${said}`;
        }),
        hovertemplate: "%{text}<extra></extra>",
        marker: {
          symbol: seen ? "circle" : "diamond", size: seen ? 12 : 13, opacity: kept.map((i) => (marked(entry.groups[i]) ? 1 : 0.13)),
          color: kept.map((i) => (cells[i] ? position(cells[i].people) : null)), cmin: Math.min(...known), cmax: Math.max(...known), colorscale: "Cividis",
          line: { color: colour("ink"), width: seen ? 0.8 : 2 }, showscale: seen,
          colorbar: { thickness: 10, len: 0.6, outlinewidth: 0, tickformat: question.options.length === 2 ? ".0%" : ".1f", nticks: 5 },
        },
      };
    });
    const [first, second] = entry.explained;
    const label = (name, share) => ({ text: `${name} axis, ${percent(share)} of variance`, standoff: 6 });
    const bare = { showticklabels: false, showgrid: true };
    draw("map", sides, {
      margin: { l: 28, r: 10, t: 10, b: 34 },
      xaxis: axis({ ...bare, title: label("first", first) }),
      yaxis: axis({ ...bare, title: label("second", second), scaleanchor: "x" }),
    });
    at("map-caption").textContent =
      `Principal components of the gates of ${entry.groups.length} groups in all layers; the two axes hold ${percent(first + second)} of the variance between groups. Circles: seen groups; diamonds: unseen groups. Point at or tap a mark for its group.`;
    at("map").setAttribute("aria-label", `Map of ${entry.groups.length} groups by the experts that serve them in ${methods[entry.method].label}. ${entry.sentence}`);
    at("topology-sentence").textContent = entry.sentence;
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
      row.append(...gates[i].map((gate) => {
        const cell = element("td", { textContent: Math.round(gate / 10) || "" });
        cell.style.background = `rgba(${colour("heat")}, ${(0.92 * gate) / largest})`;
        return cell;
      }));
      return row;
    });
    at("heat").replaceChildren(element("caption", { textContent: `${methods[entry.method].label}: ${entry.layers[Number(at("topology-layer").value)]}` }),
      element("thead", {}, head), element("tbody", {}, ...rows));
  }

  // Start -------------------------------------------------------------------------------------------------------------
  function drawAll() {
    if (answers.groups.length) drawCollapse();
    drawCurves();
    if (topology.length) { drawMap(); drawHeat(); }
  }

  function start() {
    const questions = answers.questions.map((question) => cut(question.text, 70));
    if (answers.groups.length) {
      fill(at("collapse-question"), questions, answers.start.question);
      at("collapse-question").onchange = drawCollapse;
      const choice = answers.groups.map((group, i) => new Option(group.label, i, false, i === answers.start.group));
      for (const seen of [false, true]) {
        const under = element("optgroup", { label: seen ? "Seen groups" : "Unseen groups" });
        under.append(...choice.filter((_, i) => answers.groups[i].seen === seen));
        if (under.children.length) at("answers-group").append(under);
      }
      fillQuestions();
      drawAnswers();
      at("answers-group").onchange = () => { fillQuestions(); drawAnswers(); };
      at("answers-question").onchange = drawAnswers;
    }
    if (curves.length) makeCurves();
    if (topology.length) {
      if (at("topology-method")) {
        fill(at("topology-method"), topology.map((entry) => methods[entry.method].label));
        at("topology-method").onchange = () => { fill(at("topology-layer"), mixture().layers); drawMap(); drawHeat(); };
      }
      fill(at("topology-question"), questions, answers.start.question);
      fill(at("topology-layer"), mixture().layers);
      const parts = labelParts();
      fill(at("topology-mark"), ["all groups", ...parts]);
      at("topology-mark-label").hidden = parts.length === 0;
      at("topology-question").onchange = drawMap;
      at("topology-mark").onchange = drawMap;
      at("topology-layer").onchange = drawHeat;
    }
    drawAll();
    let timer;
    addEventListener("resize", () => { clearTimeout(timer); timer = setTimeout(drawAll, 200); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
    addEventListener("beforeprint", () => { document.documentElement.dataset.theme = "print"; drawAll(); });
    addEventListener("afterprint", () => { delete document.documentElement.dataset.theme; drawAll(); });
  }
  start();
})();
