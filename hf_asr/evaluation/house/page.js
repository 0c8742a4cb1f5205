"use strict";
// Light or dark: the system's choice until the button is pressed.
const theme = document.getElementById("theme");
const systemIsDark = () => window.matchMedia("(prefers-color-scheme: dark)").matches;
theme.hidden = false;
theme.addEventListener("click", () => {
  const root = document.documentElement;
  const now = root.dataset.theme || (systemIsDark() ? "dark" : "light");
  root.dataset.theme = now === "dark" ? "light" : "dark";
});

// Numbers by size, texts by alphabet; what has no value comes last either way.
function compare(first, second, direction) {
  if (first === "" || second === "") return (first === "") - (second === "");
  const [a, b] = [Number(first), Number(second)];
  const order = Number.isNaN(a) || Number.isNaN(b) ? first.localeCompare(second) : a - b;
  return direction * order;
}

for (const table of document.querySelectorAll("table[data-sortable]")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, index) => head.addEventListener("click", () => {
    const down = head.classList.contains("num") ? head.ariaSort !== "descending" : head.ariaSort === "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.ariaSort = down ? "descending" : "ascending";
    const key = (row) => row.cells[index].dataset.sort ?? row.cells[index].textContent;
    const rows = [...table.tBodies[0].rows].sort((a, b) => compare(key(a), key(b), down ? -1 : 1));
    table.tBodies[0].append(...rows);
  }));
}

// A list whose items carry their values as data-*: a search, a choice of tags, an order, and some more at a time.
for (const list of document.querySelectorAll("[data-list]")) {
  const step = Number(list.dataset.list);
  const items = [...list.querySelectorAll(".item")];
  const holder = list.querySelector(".items");
  const [search, tag, sort] = ["search", "tag", "sort"].map((name) => list.querySelector(`[name=${name}]`));
  const output = list.querySelector("output");
  const more = list.querySelector(".more");
  const texts = new Map(items.map((item) => [item, item.textContent.toLowerCase()]));
  let limit = step;
  const refresh = () => {
    const wanted = search.value.trim().toLowerCase();
    const fits = (item) => texts.get(item).includes(wanted)
      && (tag.value === "" || item.dataset.tags.split(" ").includes(tag.value));
    let found = 0;
    for (const item of items) item.hidden = !fits(item) || ++found > limit;
    const shown = Math.min(found, limit);
    output.textContent = `${shown.toLocaleString("en")} of ${found.toLocaleString("en")}`;
    more.hidden = found <= limit;
  };
  const fromTheTop = () => { limit = step; refresh(); };
  const order = () => {
    const [name, direction] = sort.value.split(" ");
    items.sort((a, b) => compare(a.dataset[name], b.dataset[name], direction === "down" ? -1 : 1));
    holder.append(...items);
    fromTheTop();
  };
  search.addEventListener("input", fromTheTop);
  tag.addEventListener("change", fromTheTop);
  sort.addEventListener("change", order);
  more.addEventListener("click", () => { limit += 5 * step; refresh(); });
  refresh();
}

// One voice at a time.
document.addEventListener("play", (event) => {
  for (const audio of document.querySelectorAll("audio")) if (audio !== event.target) audio.pause();
}, true);
