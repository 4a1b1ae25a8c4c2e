"use strict";
// Change one field of a group's profile: how the gates and the answers move.
page.add(() => {
  const { methods, answers, topology, at, percent, element, fill, heatCell, positionName, positionText } = page;
  const known = topology.filter((entry) => entry.learned?.changes.length);
  const mixture = () => known[Number(at("changes-method")?.value ?? 0)];
  const chosen = (id) => at(id).selectedOptions[0]?.dataset.key;

  function option(text, key) {
    const made = new Option(text);
    made.dataset.key = key;
    return made;
  }

  function fillGroups() {
    const { learned, groups } = mixture();
    at("changes-group").replaceChildren(...Object.keys(learned.unchanged).map((i) => option(groups[i], i)));
    fillFields();
  }

  function fillFields() {
    const before = chosen("changes-field");
    const fields = [...new Set(mixture().learned.changes.filter((change) => String(change.group) === chosen("changes-group")).map((change) => change.field))];
    at("changes-field").replaceChildren(...fields.map((field) => option(field.replaceAll("_", " "), field)));
    if (fields.includes(before)) at("changes-field").selectedIndex = fields.indexOf(before);
  }

  function drawChanges() {
    const { learned, groups, method } = mixture();
    const group = chosen("changes-group"), field = chosen("changes-field");
    const question = answers.questions[Number(at("changes-question").value)];
    const own = learned.unchanged[group];
    const made = learned.changes.filter((change) => String(change.group) === group && change.field === field);
    const largest = Math.max(...own.gates, ...made.flatMap((change) => change.gates));
    const said = (shares) => (shares ? positionText(question, shares) : "–");
    const row = (name, gates, moved, shares, answersMoved, className = "") => element("tr", { className },
      element("th", { textContent: name, scope: "row" }), ...gates.map((gate) => heatCell(gate, largest, Math.round(100 * gate) || "")),
      element("td", { textContent: moved }), element("td", { textContent: said(shares) }), element("td", { textContent: answersMoved }));
    const head = element("tr", {}, element("th", { textContent: field.replaceAll("_", " "), scope: "col" }),
      ...own.gates.map((_, expert) => element("th", { textContent: `E${expert + 1}`, scope: "col" })),
      ...["Gates moved", "Answer", "Answers moved"].map((textContent) => element("th", { textContent, scope: "col" })));
    head.firstChild.style.textAlign = "left";
    at("changes-asked").textContent = `${question.text} Answer: ${positionName(question)}, as ${methods[method].label} predicts it for “${groups[group]}” with another ${field.replaceAll("_", " ")}.`;
    at("changes").replaceChildren(element("thead", {}, head), element("tbody", {},
      row(`${made[0].before} (as it is)`, own.gates, "–", own.answers[question.id], "–", "as-is"),
      ...made.map((change) => row(change.after ?? "left out", change.gates, percent(change.gates_moved), change.answers[question.id], change.answers_moved.toFixed(3)))));
  }

  function drawFields() {
    const bar = (share, largest) => {
      const cell = element("td", { className: "meter" });
      if (share === null) return Object.assign(cell, { textContent: "–" });
      const fillBar = element("i");
      fillBar.style.width = `${Math.max(0, (100 * share) / largest)}%`;
      cell.append(element("b", { textContent: largest === 1 ? percent(share) : share.toFixed(3) }), fillBar);
      return cell;
    };
    const rows = mixture().learned.fields;
    const widest = Math.max(1e-9, ...rows.flatMap((row) => [row.answers_changed, row.answers_left_out]));
    at("fields").replaceChildren(...rows.map((row) => element("tr", {}, element("th", { textContent: row.field, scope: "row" }),
      bar(row.share, 1), bar(row.gates_changed, 1), bar(row.gates_left_out, 1), bar(row.answers_changed, widest), bar(row.answers_left_out, widest))));
  }

  const drawAll = () => { drawChanges(); drawFields(); };
  if (at("changes-method")) {
    fill(at("changes-method"), known.map((entry) => methods[entry.method].label));
    at("changes-method").onchange = () => { fillGroups(); drawAll(); };
  }
  fill(at("changes-question"), page.questionNames, answers.start.question);
  fillGroups();
  at("changes-group").onchange = () => { fillFields(); drawChanges(); };
  for (const id of ["changes-field", "changes-question"]) at(id).onchange = drawChanges;
  return drawAll;
});
