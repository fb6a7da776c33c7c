"use strict";
const content = JSON.parse(document.getElementById("content").textContent);
const { pictures, table, folder } = content;
const byId = (id) => document.getElementById(id);
const store = `labels of ${folder}`;
const keys = [..."123456789abcdefghijklmnopqrstuvwxyz"];
const fileColumn = ["picture", "file"].find((name) => table.columns.includes(name));
const columns = { file: table.columns.indexOf(fileColumn), class: table.columns.indexOf("class"),
  split: table.columns.indexOf("split") };

/* Answers: class and split by file; a class of null says that the image was skipped. Those of images that have a row in
   the table by now are not needed any more. */
const inTable = new Set(table.rows.map((row) => row[columns.file]));
let answers = {};
try {
  answers = JSON.parse(localStorage.getItem(store)) ?? {};
} catch { /* This browser keeps nothing: what is labelled lasts until the page is closed. */ }
for (const file of Object.keys(answers)) if (inTable.has(file)) delete answers[file];

const history = [];
let position = Math.max(0, pictures.findIndex((picture) => !(picture.file in answers)));
const unescaped = (cell) => (/^'[=+\-@\t\r']/.test(cell) ? cell.slice(1) : cell);
const rowsWithClass = table.rows.map((row) => ({ label: unescaped(row[columns.class]).trim().normalize("NFC"),
  split: row[columns.split].trim().toLowerCase() })).filter((row) => row.label);

function labels() {
  return [...rowsWithClass, ...Object.values(answers).filter((answer) => answer.label !== null)];
}

function classNames() {
  return [...new Set([...content.classes, ...labels().map((entry) => entry.label)])];
}

function keep() {
  try {
    localStorage.setItem(store, JSON.stringify(answers));
  } catch { /* As above. */ }
}

/* What a key does */
function answer(label) {
  const picture = pictures[position];
  if (!picture) return;
  history.push({ position, before: answers[picture.file] });
  answers[picture.file] = { label, split: picture.split };
  const open = (candidate) => !(candidate.file in answers);
  const after = pictures.findIndex((candidate, place) => place > position && open(candidate));
  const next = after >= 0 ? after : pictures.findIndex(open);
  if (next >= 0) position = next;
  keep();
  draw();
}

function undo() {
  const last = history.pop();
  if (!last) return;
  position = last.position;
  if (last.before === undefined) delete answers[pictures[position].file];
  else answers[pictures[position].file] = last.before;
  keep();
  draw();
}

function move(step) {
  position = Math.min(Math.max(position + step, 0), pictures.length - 1);
  draw();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target === byId("name") || !pictures.length) return;
  const place = keys.indexOf(event.key.toLowerCase());
  if (event.key === "Enter" && event.target === document.body) byId("name").focus();
  else if (event.key === " ") answer(null);
  else if (event.key === "Backspace") undo();
  else if (event.key === "ArrowLeft") move(-1);
  else if (event.key === "ArrowRight") move(1);
  else if (place >= 0 && place < classNames().length) answer(classNames()[place]);
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
for (const [id, action] of Object.entries({ undo, skip: () => answer(null), previous: () => move(-1),
  following: () => move(1) }))
  byId(id).addEventListener("click", (event) => { action(); event.currentTarget.blur(); });

/* The table: the rows that were there, and one for each image that was labelled or is set aside for testing. */
function newRows() {
  const rows = new Map();
  for (const picture of pictures) if (picture.split === "test") rows.set(picture.file, { label: null, split: "test" });
  for (const [file, entry] of Object.entries(answers)) if (entry.label !== null) rows.set(file, entry);
  return [...rows].map(([file, entry]) => {
    const row = table.columns.map(() => "");
    row[columns.file] = escaped(file);
    row[columns.class] = escaped(entry.label ?? "");
    row[columns.split] = entry.split === "test" ? "test" : table.rows.length ? "" : "train";
    return row;
  });
}

/* A spreadsheet runs what begins like this as a formula. */
function escaped(text) {
  return /^[=+\-@\t\r']/.test(text) ? `'${text}` : text;
}

function csv() {
  const quoted = (cell) => (/["\r\n]|^\s|\s$/.test(cell) || cell.includes(table.delimiter)
    ? `"${cell.replaceAll('"', '""')}"` : cell);
  const lines = [table.columns, ...table.rows, ...newRows()].map((row) => row.map(quoted).join(table.delimiter));
  return lines.join("\n") + "\n";
}

byId("save").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  link.download = "labels.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  byId("saved").textContent = folder === null ? "Saved among your downloads."
    : `Saved among your downloads, with ${table.rows.length} earlier rows. Move it to ${folder}/labels.csv, then run `
      + "dvc repro.";
});

/* What is still missing for a run */
function hints() {
  const found = labels(), of = (split, name) => found.filter((entry) => (entry.split === "test") === (split === "test")
    && entry.label === name).length;
  const names = [...new Set(found.map((entry) => entry.label))], tests = found.some((entry) => entry.split === "test");
  if (names.length < 2) return ["At least two classes are needed."];
  return names.flatMap((name) => {
    if (of("train", name) === 0)
      return [`“${name}” has test images, but none to train on. If none is left here, raise suggest.images and run `
        + "dvc repro suggest."];
    if (tests && of("test", name) === 0) return [`“${name}” has no test image, so it will not be tested.`];
    return [];
  });
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
  byId("what").replaceChildren(kind, picture.standsFor > 1 ? `${number}, stands for ${picture.standsFor} images` : number);
  byId("file").textContent = picture.file;
}

function drawClasses() {
  const chosen = pictures[position] && answers[pictures[position].file], found = labels();
  byId("classes").replaceChildren(...classNames().map((name, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", String(chosen?.label === name));
    const count = (isTest) => found.filter((entry) => entry.label === name && (entry.split === "test") === isTest).length;
    button.append(place < keys.length ? element("kbd", keys[place].toUpperCase()) : element("span", ""),
      element("span", name, "name"), element("span", `${count(false)} + ${count(true)} test`, "count"));
    button.addEventListener("click", () => answer(name));
    return button;
  }));
}

function drawProgress() {
  for (const split of ["train", "test"]) {
    const of = pictures.filter((picture) => picture.split === split);
    const done = of.filter((picture) => answers[picture.file]);
    const labelled = done.filter((picture) => answers[picture.file].label !== null).length;
    const skipped = done.length > labelled ? `, ${done.length - labelled} skipped` : "";
    const line = byId(`progress-${split}`);
    line.textContent = `${split === "train" ? "Suggested" : "Test"}: ${labelled} of ${of.length} labelled${skipped}`;
    line.nextElementSibling.firstElementChild.style.width = of.length ? `${(100 * done.length) / of.length}%` : 0;
  }
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
  tile.addEventListener("click", () => { position = place; tile.blur(); draw(); });
  byId(`strip-${picture.split}`).lastElementChild.append(tile);
  return tile;
});
for (const split of ["train", "test"])
  byId(`strip-${split}`).hidden = !pictures.some((picture) => picture.split === split);

function drawStrips() {
  tiles.forEach((tile, place) => {
    const entry = answers[pictures[place].file];
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
