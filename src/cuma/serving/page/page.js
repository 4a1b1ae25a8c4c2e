"use strict";
// One page: who asks, what they ask, and the answers side by side. Nothing is stored; the key stays in its field.

const MOST_PEOPLE = 3;
const NAMES = ["Person 1", "Person 2", "Person 3"];
const LABELS = {
  sex: "Sex or gender", ethnicity: "Ethnicity", birth_country: "Born in", urban_rural: "Town or country", marital: "Marital status",
  church_activity: "At church", description: "In your own words",
};
const at = (id) => document.getElementById(id);
let models = [];
let running = null;
let done = Promise.resolve();  // of the last question

// ---- building ---------------------------------------------------------------------------------------------------------

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function colour(element, place) {
  element.style.setProperty("--c", `var(--person-${place + 1})`);
  return element;
}

const current = () => models.find((model) => model.id === at("model").value);
const labelOf = (field) => LABELS[field] || field[0].toUpperCase() + field.slice(1).replaceAll("_", " ");

function input(field, values, place) {
  const id = `${field}-${place}`;
  const label = make("label", { for: id, class: field === "description" ? "wide" : null }, labelOf(field));
  const box = field === "description"
    ? make("textarea", { id, name: field, rows: 2, maxlength: 2000 })
    : make("input", { id, name: field, maxlength: 200, autocomplete: "off", list: values.length ? `${id}-list` : null });
  label.append(box);
  if (values.length) label.append(make("datalist", { id: `${id}-list` }, ...values.map((value) => make("option", { value }))));
  return label;
}

function addPerson(preset) {
  const place = at("people").children.length;
  const person = at("person-template").content.firstElementChild.cloneNode(true);
  at("people").append(colour(person, place));
  const { profile_fields: fields, field_values: values, people } = current().cuma;
  const known = fields.filter((field) => field in values);
  const first = known.length ? known : fields.slice(0, 5);
  const sorted = [...first, ...fields.filter((field) => !first.includes(field))];
  person.querySelector(".fields").append(...sorted.map((field) => input(field, values[field] || [], place)));
  person.querySelector(".more").open = !people.length;
  const select = person.querySelector("select");
  select.append(make("option", { value: "" }, "Nobody in particular"), ...people.map((each, n) => make("option", { value: n }, each.group)));
  person.querySelector(".preset").hidden = !people.length;
  select.addEventListener("change", () => fill(person, people[select.value]?.profile || {}));
  person.addEventListener("input", (event) => {
    if (event.target !== select) select.value = "";
    summarise(person);
  });
  person.querySelector(".remove").addEventListener("click", () => { person.remove(); renumber(); at("add").focus(); });
  if (preset !== undefined && people.length) {
    select.value = Math.min(preset, people.length - 1);
    fill(person, people[select.value].profile);
  }
  summarise(person);
  renumber();
  return person;
}

function fill(person, profile) {
  for (const box of person.querySelectorAll("[name]")) box.value = profile[box.name] || "";
  summarise(person);
}

// All that is said of a person, in full, where a picker may be too narrow for it.
function summarise(person) {
  person.querySelector("summary").textContent = sentence(profileOf(person)) || "Say who they are";
}

function renumber() {
  const people = [...at("people").children];
  people.forEach((person, place) => {
    colour(person, place).querySelector("legend").textContent = NAMES[place];
    person.querySelector(".remove").hidden = people.length === 1;
    for (const label of person.querySelectorAll(".fields label")) {  // ids stay unique when somebody goes
      const box = label.querySelector("[name]"), list = label.querySelector("datalist"), id = `${box.name}-${place}`;
      box.id = id;
      label.htmlFor = id;
      if (list) { list.id = `${id}-list`; box.setAttribute("list", list.id); }
    }
  });
  at("add").disabled = people.length >= MOST_PEOPLE;
}

function profileOf(person) {
  const profile = {};
  for (const box of person.querySelectorAll("[name]")) if (box.value.trim()) profile[box.name] = box.value.trim();
  return profile;
}

const sentence = (profile) => Object.entries(profile).map(([field, value]) => (field === "church_activity" ? `${value} at church` : value)).join(", ");
const nameOf = (profile, place) => `${NAMES[place]}: ${sentence(profile) || "nobody in particular"}`;

// ---- models -----------------------------------------------------------------------------------------------------------

function showModel() {
  const { cuma } = current();
  at("about").textContent = `${cuma.label} over ${cuma.base_model}`;
  at("people").replaceChildren();
  const spread = cuma.people.length;
  addPerson(0);
  addPerson(Math.max(1, spread - 1));
  const select = at("preset-question");
  select.replaceChildren(...cuma.questions.map((question, n) => make("option", { value: n }, question.text)), make("option", { value: "" }, "My own question"));
  select.hidden = at("preset-question-label").hidden = !cuma.questions.length;
  select.value = cuma.questions.length ? "0" : "";
  showQuestion();
  at("untested").hidden = !cuma.questions.length;
  const start = document.querySelector(`input[value=${cuma.questions.length ? "survey" : "chat"}]`);
  start.checked = true;
  showMode(start.value);
  done = ask();
}

function showMode(mode) {
  at("chat-fields").hidden = mode !== "chat";
  at("survey-fields").hidden = at("words").hidden = mode !== "survey";
}

function showQuestion() {
  const question = current().cuma.questions[at("preset-question").value];
  at("words").open = !question;
  at("words-summary").textContent = question ? question.text : "Your question";
  if (!question) return;
  at("question").value = question.text;
  at("options").value = question.options.join("\n");
}

async function start() {
  try {
    models = (await request("/v1/models")).data;
  } catch (error) {
    problem(error);
    return;
  }
  at("model").replaceChildren(...models.map((model) => make("option", { value: model.id }, model.id)));
  at("model-label").hidden = models.length < 2;
  problem();
  showModel();
}

// ---- asking -----------------------------------------------------------------------------------------------------------

class Refused extends Error {}

async function send(path, body, signal) {
  const headers = {};
  if (at("key").value) headers.Authorization = `Bearer ${at("key").value.trim()}`;
  if (body) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method: body ? "POST" : "GET", headers, signal, body: body && JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server cannot be reached. Is it still running?");
  }
  if (answer.ok) return answer;
  if (answer.status === 401) {
    at("key-label").hidden = false;
    at("key").focus();
  }
  const told = await answer.json().catch(() => null);
  throw new Refused(told?.error?.message || `The server answered ${answer.status}.`);
}

const request = async (path, body, signal) => (await send(path, body, signal)).json();

async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.slice("data: ".length);
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new Refused(event.error.message);
      yield event;
    }
  }
}

async function chat(profile, column, signal) {
  const said = make("p", { class: "said" });
  column.append(said);
  const body = { model: current().id, messages: [{ role: "user", content: at("text").value }], stream: true, routing: true, temperature: 0.7, top_p: 0.95, seed: 0, max_tokens: Math.min(200, current().cuma.max_tokens) };
  if (Object.keys(profile).length) body.profile = profile;
  for await (const event of events(await send("/v1/chat/completions", body, signal))) {
    for (const choice of event.choices) {
      said.textContent += choice.delta.content || "";
      if (choice.experts) column.append(expertMap(choice.experts));
    }
  }
  if (!said.textContent.trim()) said.textContent = "(The model said nothing.)";
}

async function survey(profiles, columns, signal) {
  const options = at("options").value.split("\n").map((line) => line.trim()).filter(Boolean);
  const question = at("question").value;
  const known = current().cuma.questions.find((one) => one.text === question && one.options.join("\n") === options.join("\n"));
  const body = { model: current().id, question, options, profiles, ordinal: Boolean(known && known.ordinal), routing: true };
  const { data } = await request("/v1/opinions", body, signal);
  data.forEach((opinion, place) => {
    columns[place].append(bars(options, opinion.probabilities));
    if (opinion.option_mass < 0.5) {
      columns[place].append(make("p", { class: "note" }, `The model would rather say something else: the letters together have ${percent(opinion.option_mass)}.`));
    }
    if (opinion.experts) columns[place].append(expertMap(opinion.experts));
  });
}

async function ask(event) {
  event?.preventDefault();
  if (running || !models.length) return done;
  const isSurvey = new FormData(at("form")).get("mode") === "survey";
  const profiles = [...at("people").children].map(profileOf);
  const columns = [...document.querySelectorAll(".answer")];
  columns.forEach((column, place) => column.replaceChildren(make("h3", {}, nameOf(profiles[place], place))));
  problem();
  busy(true);
  running = new AbortController();
  try {
    if (isSurvey) await survey(profiles, columns, running.signal);
    else {
      const replies = profiles.map((profile, place) => chat(profile, columns[place], running.signal));
      const failed = (await Promise.allSettled(replies)).find((reply) => reply.status === "rejected");
      if (failed) throw failed.reason;
    }
    at("status").textContent = "Done.";
  } catch (error) {
    at("status").textContent = error.name === "AbortError" ? "Stopped." : "";
    if (error.name !== "AbortError") problem(error);
  } finally {
    running = null;
    busy(false);
  }
}

function busy(is) {
  at("ask").disabled = is;
  at("stop").hidden = !is;
  if (is) at("status").textContent = "Answering …";
}

function problem(error) {
  at("problem").textContent = error ? error.message : "";
}

// ---- pictures ---------------------------------------------------------------------------------------------------------

const percent = (share) => `${Math.round(100 * share)} %`;

function bars(options, shares) {
  const list = make("dl", { class: "bars" });
  options.forEach((option, n) => {
    const fill = make("i");
    fill.style.width = `${100 * shares[n]}%`;
    list.append(make("dt", {}, option), make("dd", { class: "track", "aria-hidden": "true" }, fill), make("dd", { class: "share" }, percent(shares[n])));
  });
  return list;
}

function expertMap(experts) {
  const layers = Object.entries(experts);
  const count = layers[0][1].length;
  const mean = Array.from({ length: count }, (_, n) => layers.reduce((sum, [, gates]) => sum + gates[n], 0) / layers.length);
  const most = mean.map((share, n) => [share, n]).sort((a, b) => b[0] - a[0]).slice(0, 2);
  const summary = `Experts ${most.map(([share, n]) => `${n + 1} (${percent(share)})`).join(" and ")} spoke most`;
  const table = make("table", { class: "map" }, make("caption", {}, summary));
  const head = make("tr", {}, make("th", { scope: "col" }, "Layer"), ...mean.map((_, n) => make("th", { scope: "col" }, `${n + 1}`)));
  table.append(make("thead", {}, head));
  const body = make("tbody");
  for (const [layer, gates] of layers) {
    const row = make("tr", {}, make("th", { scope: "row" }, /\d+/.exec(layer)?.[0] ?? layer));
    for (const gate of gates) {
      const mark = make("i", { "aria-hidden": "true" });
      mark.style.opacity = gate;
      row.append(make("td", { title: percent(gate) }, mark, make("span", { class: "hidden" }, percent(gate))));
    }
    body.append(row);
  }
  table.append(body);
  return table;
}

// ---- wiring -----------------------------------------------------------------------------------------------------------

at("form").addEventListener("submit", (event) => { done = ask(event); });
at("stop").addEventListener("click", () => { running?.abort(); at("ask").focus(); });
at("add").addEventListener("click", () => addPerson().querySelector("select, input").focus());
at("model").addEventListener("change", () => { running?.abort(); done.then(showModel); });
at("preset-question").addEventListener("change", showQuestion);
at("key").addEventListener("change", start);
for (const radio of document.getElementsByName("mode")) {
  radio.addEventListener("change", () => showMode(radio.value));
}
start();
