"use strict";
// One group's answers to one question: people's, and what every method says for them.
page.add(() => {
  const { methods, answers, at, colour, percent, element, escape, axis, cut } = page;

  function barRow(label, role, ink, share, interval) {
    const track = element("span", { className: "bar-track" });
    const bar = element("i", { className: "fill" });
    bar.style.cssText = `width:${100 * share}%;--c:var(--${ink})`;
    const band = element("i", { className: "band" });
    if (interval) band.style.cssText = `left:${100 * interval[0]}%;width:${100 * (interval[1] - interval[0])}%`;
    track.append(bar);
    if (interval) track.append(band);
    return element("div", { className: `bar-row ${role}` },
      element("span", { className: "bar-label", textContent: label }), track, element("b", { textContent: percent(share) }));
  }

  // The same as a picture to save; on the page bars are text and boxes, which a screen reader reads.
  function picture() {
    const number = Number(at("answers-question").value);
    const { label, cells: { [number]: cell } } = answers.groups[Number(at("answers-group").value)];
    const question = answers.questions[number];
    const rows = [["People", "people", cell.people], ...methods.map((method, i) => [method.label, method.colour, cell.methods[i]])].filter(([, , shares]) => shares);
    const options = question.options.length === 2 ? [0] : [...question.options.keys()];
    const traces = rows.map(([name, ink, shares]) => ({
      type: "bar", orientation: "h", name: escape(name), marker: { color: colour(ink) }, x: options.map((option) => shares[option]),
      y: options.map((option) => escape(cut(question.options[option], 40))), text: options.map((option) => percent(shares[option])), textposition: "outside", cliponaxis: false,
      error_x: name === "People" && cell.interval ? {
        type: "data", symmetric: false, color: colour("soft"), array: options.map((option) => cell.interval[option][1] - shares[option]), arrayminus: options.map((option) => shares[option] - cell.interval[option][0]),
      } : undefined,
    }));
    const layout = {
      width: 860, height: 120 + 18 * options.length * (rows.length + 1), margin: { l: 230, r: 40, t: 6, b: 40 }, showlegend: true, legend: { traceorder: "normal" },
      xaxis: axis({ range: [0, 1], tickformat: ".0%" }), yaxis: axis({ autorange: "reversed" }),
    };
    return { figure: page.figure(traces, layout), title: `${cut(label, 70)}: ${cut(question.text, 70)}`, name: `Answers: ${question.text}` };
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
    const of = cell.n === null ? "In this" : `Of ${cell.n} people in this`;
    const interval = cell.interval ? ` (95 % interval ${cell.interval[top].map(percent).join(" to ")})` : "";
    const lead = methods.findIndex((method) => method.role === "reference");
    const said = cell.methods[lead] ? ` ${methods[lead].label} predicts ${percent(cell.methods[lead][top])}.` : "";
    at("answers-sentence").textContent =
      `${of} ${group.seen ? "seen" : "unseen"} group, ${percent(cell.people[top])}${interval} say “${question.options[top]}”.${said}`;
    const options = question.options.length === 2 ? [0] : question.options.keys();
    at("answers").replaceChildren(...[...options].map((option) => element("div", {},
      element("h4", { textContent: `Share answering “${question.options[option]}”` }),
      barRow(cell.n === null ? "People" : `People (n ${cell.n})`, "people", "people", cell.people[option], cell.interval?.[option]),
      ...methods.flatMap((method, i) => cell.methods[i]
        ? [barRow(method.label, method.role, method.colour, cell.methods[i][option], cell.interval?.[option])] : []))));
  }

  function fillGroups() {
    const choice = answers.groups.map((group, i) => new Option(group.label, i, false, i === answers.start.group));
    for (const seen of [false, true]) {
      const under = element("optgroup", { label: seen ? "Seen groups" : "Unseen groups" });
      under.append(...choice.filter((_, i) => answers.groups[i].seen === seen));
      if (under.children.length) at("answers-group").append(under);
    }
  }

  fillGroups();
  fillQuestions();
  page.saveButtons(at("answers"), picture);
  at("answers-group").onchange = () => { fillQuestions(); drawAnswers(); };
  at("answers-question").onchange = drawAnswers;
  return drawAnswers;
});
