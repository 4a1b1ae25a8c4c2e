"use strict";
// What all parts of the page share. The numbers come from the JSON element "data"; nothing is fetched. A part calls
// page.add with a function that runs once, fills its pickers, and returns what (re)draws it.
const page = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { answers } = data;
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

  // The number that stands for a distribution on an axis: on a scale the mean position, else the share of the first option.
  const isScale = (question) => question.ordinal && question.options.length > 2;
  const position = (question, shares) =>
    isScale(question) ? shares.reduce((sum, share, i) => sum + (share * i) / (shares.length - 1), 0) : shares[0];
  const positionName = (question) =>
    isScale(question) ? `mean answer, from “${question.options[0]}” (0) to “${question.options.at(-1)}” (1)`
      : `share answering “${question.options[0]}”`;
  const positionText = (question, shares) =>
    isScale(question) ? position(question, shares).toFixed(2) : percent(position(question, shares));
  function heatCell(share, largest, text) {
    const cell = element("td", { textContent: text });
    cell.style.background = `rgba(${colour("heat")}, ${largest ? (0.92 * share) / largest : 0})`;
    return cell;
  }

  const cut = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

  const parts = [];
  function start() {
    const draws = parts.map((part) => part());
    const drawAll = () => draws.forEach((redraw) => redraw());
    drawAll();
    let timer;
    addEventListener("resize", () => { clearTimeout(timer); timer = setTimeout(drawAll, 200); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
    addEventListener("beforeprint", () => { document.documentElement.dataset.theme = "print"; drawAll(); });
    addEventListener("afterprint", () => { delete document.documentElement.dataset.theme; drawAll(); });
  }

  return {
    ...data, at, colour, percent, escape, element, fill, axis, draw, isScale, position, positionName, positionText, cut, heatCell, start,
    questionNames: answers.questions.map((question) => cut(question.text, 70)),
    groupOf: Object.fromEntries(answers.groups.map((group) => [group.label, group])),
    add: (part) => parts.push(part),
  };
})();
