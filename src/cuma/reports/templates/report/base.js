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

  function figure(traces, layout) {
    return { data: traces, layout: {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: false, showlegend: false, hovermode: "closest",
      font: { family: "system-ui, sans-serif", size: 12, color: colour("soft") },
      hoverlabel: { font: { family: "system-ui, sans-serif", color: colour("ink") }, bgcolor: colour("paper"), bordercolor: colour("soft"), align: "left" },
      ...layout,
    } };
  }

  // What is saved stands alone: on paper, under its title.
  function saved({ data, layout }, title) {
    const margin = { l: 60, r: 30, b: 50, ...layout.margin, t: (layout.margin?.t ?? 0) + 44 };
    const heading = { text: escape(title), x: 0.02, xanchor: "left", yref: "container", y: 1, yanchor: "top", pad: { t: 14 }, font: { size: 14, color: colour("ink") } };
    return { data, layout: { ...layout, height: layout.height + 44, margin, paper_bgcolor: colour("paper"), title: heading }, config };
  }

  // Two buttons under a picture. make: what returns {figure, title} of what is shown now, and a name for the file
  // where the title says of which people it is: that belongs into no file's name.
  function saveButtons(box, make) {
    const save = (format) => () => {
      const { figure: shown, title, name = title } = make();
      const filename = `${data.benchmark}-${name}`.normalize("NFKD").replace(/[^A-Za-z0-9]+/g, "-").slice(0, 80).replace(/^-|-$/g, "");
      const { width, height } = saved(shown, title).layout;
      return Plotly.downloadImage(saved(shown, title), { format, filename, width, height, scale: format === "png" ? 2 : 1 });
    };
    const button = (format) => element("button", { type: "button", textContent: format.toUpperCase(), title: `Save this picture as ${format.toUpperCase()}`, onclick: save(format) });
    box.after(element("div", { className: "save" }, "Save ", button("svg"), button("png")));
  }

  const shown = {};
  function draw(id, traces, layout, title) {
    // Sizes are read here and redrawn on change: Plotly's own resizing comes too late for a page that is being printed.
    const box = at(id);
    if (!box.clientWidth) return; // in a fold: drawn when that is opened
    const sized = figure(traces, { width: box.clientWidth, height: box.clientHeight, ...layout });
    if (!shown[id]) saveButtons(box, () => shown[id]);
    shown[id] = { figure: sized, title };
    Plotly.react(id, sized.data, sized.layout, config);
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
    const drawAll = () => {
      draws.forEach((redraw) => redraw());
      for (const box of document.querySelectorAll(".scroll")) box.toggleAttribute("data-wide", box.scrollWidth > box.clientWidth);
    };
    drawAll();
    document.addEventListener("toggle", drawAll, true);
    let timer;
    addEventListener("resize", () => { clearTimeout(timer); timer = setTimeout(drawAll, 200); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
    addEventListener("beforeprint", () => { document.documentElement.dataset.theme = "print"; drawAll(); });
    addEventListener("afterprint", () => { delete document.documentElement.dataset.theme; drawAll(); });
  }

  return {
    ...data, at, colour, percent, escape, element, fill, axis, draw, isScale, position, positionName, positionText, cut, heatCell, start, figure, saveButtons,
    questionNames: answers.questions.map((question) => cut(question.text, 70)),
    groupOf: Object.fromEntries(answers.groups.map((group) => [group.label, group])),
    add: (part) => parts.push(part),
  };
})();
