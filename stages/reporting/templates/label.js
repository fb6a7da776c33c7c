"use strict";
const content = JSON.parse(document.getElementById("content").textContent);
const { pictures, table } = content;
const byId = (id) => document.getElementById(id);
const keys = [..."123456789abcdefghijklmnopqrstuvwxyz"];
const columns = {
  file: table.columns.indexOf(["picture", "file"].find((name) => table.columns.includes(name))),
  class: table.columns.indexOf("class"),
  split: table.columns.indexOf("split"),
};

/* Answers that are not in the table yet: class and split by name of the image; a class of null is a skipped image.
   Classes keep their order, and so their keys, between visits. */
let answers = {}, classes = [];
try {
  ({ answers, classes } = { answers, classes, ...JSON.parse(localStorage.getItem(content.store)) });
} catch { /* This browser keeps nothing: what is labelled lasts until the page is closed. */ }
const inTable = new Map();
for (const [name, label, split] of table.labels) if (label) inTable.set(name, { label, split });
for (const name of Object.keys(answers)) if (inTable.has(name)) delete answers[name];
const labels = () => [...inTable.values(), ...Object.values(answers).filter((answer) => answer.label !== null)];
const used = new Set([...content.classes, ...labels().map((entry) => entry.label)]);
classes = [...new Set([...classes.filter((name) => used.has(name)), ...used])];

/* Number of images of a class that are for testing, or that are not. */
function count(name, isTest) {
  return labels().filter((entry) => entry.label === name && (entry.split === "test") === isTest).length;
}

const history = [];
const isOpen = (picture) => !(picture.name in answers);
let position = Math.max(0, pictures.findIndex(isOpen));
let finished = !pictures.some(isOpen);

function keep() {
  try {
    localStorage.setItem(content.store, JSON.stringify({ answers, classes }));
  } catch { /* As above. */ }
}

/* What a key does. After the last image, keys do nothing until another image is chosen. */
function answer(label) {
  const picture = pictures[position];
  if (!picture || finished) return;
  history.push({ position, before: answers[picture.name] });
  answers[picture.name] = { label, split: picture.split };
  if (label !== null && !classes.includes(label)) classes.push(label);
  const after = pictures.findIndex((candidate, place) => place > position && isOpen(candidate));
  const next = after >= 0 ? after : pictures.findIndex(isOpen);
  finished = next < 0;
  if (!finished) position = next;
  keep();
  draw();
}

function undo() {
  const last = history.pop();
  if (!last) return;
  if (last.before === undefined) delete answers[pictures[last.position].name];
  else answers[pictures[last.position].name] = last.before;
  keep();
  show(last.position);
}

function show(place) {
  position = Math.min(Math.max(place, 0), pictures.length - 1);
  finished = false;
  draw();
}

/* The sign on a key, or the key's place on keyboards on which digits need Shift or letters are not Latin. */
function keyOf(event) {
  const sign = event.key.toLowerCase();
  return keys.includes(sign) ? sign : event.code.replace(/^(Digit|Numpad|Key)/, "").toLowerCase();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target === byId("name")) return;
  const place = keys.indexOf(keyOf(event));
  if (event.key === "Enter" && event.target === document.body) byId("name").focus();
  else if (event.key === " ") answer(null);
  else if (event.key === "Backspace") undo();
  else if (event.key === "ArrowLeft") show(position - 1);
  else if (event.key === "ArrowRight") show(position + 1);
  else if (place >= 0 && place < classes.length) answer(classes[place]);
  else return;
  event.preventDefault();
});
byId("name").addEventListener("keydown", (event) => event.key === "Escape" && event.target.blur());
byId("add").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = byId("name").value.trim().normalize("NFC");
  byId("name").value = "";
  byId("name").blur();
  if (name) answer(name);
});
const buttons = { undo, skip: () => answer(null), previous: () => show(position - 1),
  following: () => show(position + 1) };
for (const [id, action] of Object.entries(buttons))
  byId(id).addEventListener("click", (event) => { action(); event.currentTarget.blur(); });

let isSure = false;
byId("forget").addEventListener("click", (event) => {
  event.currentTarget.blur();
  if (isSure) {
    answers = {};
    history.length = 0;
    keep();
    show(0);
  }
  isSure = !isSure;
  event.currentTarget.textContent = isSure ? "Sure? Press again to forget them" : "Forget unsaved labels";
});

/* The table: its rows, in which class and split may have changed, then one for each other image that was labelled or
   is set aside for testing. */
function newTable() {
  const entries = new Map();
  for (const { name, file, split } of pictures)
    if (split === "test" && !inTable.has(name)) entries.set(name, { file, label: null, split });
  for (const [name, entry] of Object.entries(answers)) {
    const file = pictures.find((picture) => picture.name === name)?.file ?? name;
    if (entry.label !== null) entries.set(name, { file, ...entry });
  }

  const changed = (cells, { label, split }) => {
    const row = [...cells];
    row[columns.class] = escaped(label ?? "");
    row[columns.split] = split;
    return row;
  };
  const names = table.labels.map(([name]) => name);
  const rows = table.rows.map((cells, number) => {
    const entry = entries.get(names[number]);
    return entry ? changed(cells, entry) : cells;
  });
  for (const [name, entry] of entries) {
    if (names.includes(name)) continue;
    const cells = table.columns.map(() => "");
    cells[columns.file] = escaped(entry.file);
    rows.push(changed(cells, entry));
  }
  return rows;
}

/* A spreadsheet runs what begins like this as a formula. */
function escaped(text) {
  return /^[=+\-@\t\r']/.test(text) ? `'${text}` : text;
}

function csv() {
  const quoted = (cell) => (/["\r\n]|^\s|\s$/.test(cell) || cell.includes(table.delimiter)
    ? `"${cell.replaceAll('"', '""')}"` : cell);
  const lines = [table.columns, ...newTable()].map((row) => row.map(quoted).join(table.delimiter));
  return lines.join("\n") + "\n";
}

byId("save").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  link.download = "labels.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  byId("saved").textContent = content.folder === null ? "Saved among your downloads."
    : `Saved among your downloads, with all ${table.rows.length} earlier rows. Move it to ${content.folder}, as `
      + "labels.csv, then run dvc repro.";
});

/* What is still missing for a run */
function hints() {
  const names = [...new Set(labels().map((entry) => entry.label))], missing = [];
  const isTested = labels().some((entry) => entry.split === "test");
  const hasTests = pictures.some((picture) => picture.split === "test");
  if (names.length < 2) missing.push("At least two classes are needed.");
  if (!isTested && hasTests) missing.push("No test image has a label yet.");
  for (const name of names) {
    if (count(name, false) === 0)
      missing.push(`“${name}” has test images, but none to train on. For more images, raise suggest.images and run `
        + "dvc repro suggest.");
    else if (count(name, false) === 1) missing.push(`“${name}” has a single image to train on: label another one.`);
    if (isTested && count(name, true) === 0) missing.push(`“${name}” has no test image, so it will not be tested.`);
  }
  const shown = new Set(pictures.map((picture) => picture.name));
  const earlier = Object.entries(answers).filter(([name, entry]) => entry.label !== null && !shown.has(name)).length;
  if (earlier) missing.push(`${earlier} labels of an earlier page, which are not in labels.csv yet, are saved too.`);
  return missing;
}

/* Drawing */
function element(tag, text, name) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.textContent = text;
  return made;
}

function drawPicture() {
  const picture = pictures[position];
  byId("stage").hidden = !picture;
  if (!picture) return;
  const same = pictures.filter((other) => other.split === picture.split);
  byId("large").src = picture.image;
  byId("large").alt = picture.file;
  const kind = element("span", picture.split === "test" ? "test" : "suggested", picture.split);
  const number = `${same.indexOf(picture) + 1} of ${same.length}`;
  const stands = picture.standsFor > 1 ? `, stands for ${picture.standsFor} images` : "";
  byId("what").replaceChildren(...(finished ? ["All images are done: save labels.csv."] : [kind, number + stands]));
  byId("file").textContent = picture.file;
}

function drawClasses() {
  const chosen = pictures[position] && answers[pictures[position].name];
  byId("classes").replaceChildren(...classes.map((name, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", String(chosen?.label === name));
    button.append(place < keys.length ? element("kbd", keys[place].toUpperCase()) : element("span", ""),
      element("span", name, "name"), element("span", `${count(name, false)} + ${count(name, true)} test`, "count"));
    button.addEventListener("click", () => answer(name));
    return button;
  }));
}

function drawProgress() {
  for (const split of ["train", "test"]) {
    const of = pictures.filter((picture) => picture.split === split);
    const done = of.filter((picture) => answers[picture.name]);
    const labelled = done.filter((picture) => answers[picture.name].label !== null).length;
    const skipped = done.length > labelled ? `, ${done.length - labelled} skipped` : "";
    const line = byId(`progress-${split}`);
    line.textContent = `${split === "train" ? "Suggested" : "Test"}: ${labelled} of ${of.length} labelled${skipped}`;
    line.hidden = line.nextElementSibling.hidden = !of.length;
    line.nextElementSibling.firstElementChild.style.width = of.length ? `${(100 * done.length) / of.length}%` : 0;
  }
  byId("forget").disabled = !Object.keys(answers).length;
  byId("save").disabled = !pictures.length || !Object.values(answers).some((entry) => entry.label !== null);
  byId("hints").replaceChildren(...hints().map((hint) => element("li", hint)));
}

const tiles = pictures.map((picture, place) => {
  const tile = document.createElement("button"), image = document.createElement("img");
  tile.type = "button";
  tile.title = picture.file;
  image.src = picture.image;
  image.alt = picture.file;
  tile.append(image, element("span", "", "label"));
  tile.addEventListener("click", () => { tile.blur(); show(place); });
  byId(`strip-${picture.split}`).lastElementChild.append(tile);
  return tile;
});
for (const split of ["train", "test"])
  byId(`strip-${split}`).hidden = !pictures.some((picture) => picture.split === split);

function drawStrips() {
  tiles.forEach((tile, place) => {
    const entry = answers[pictures[place].name];
    tile.setAttribute("aria-current", String(place === position));
    tile.classList.toggle("done", Boolean(entry));
    tile.lastElementChild.textContent = entry ? (entry.label ?? "skipped") : "";
  });
}

function draw() {
  drawPicture();
  drawClasses();
  drawProgress();
  drawStrips();
}
draw();
document.body.dataset.ready = "yes";
