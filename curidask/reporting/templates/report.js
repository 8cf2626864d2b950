// What makes a report handier; without it everything is there all the same.
"use strict";

const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// A link to a stage opens the record it is in.
function openTarget() {
  const target = document.getElementById(location.hash.slice(1));
  if (!target) return;
  for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  target.scrollIntoView();
}
addEventListener("hashchange", openTarget);
addEventListener("DOMContentLoaded", openTarget);

// Paper shows what is folded.
addEventListener("beforeprint", () => all("details").forEach((d) => { d.dataset.was = d.open; d.open = true; }));
addEventListener("afterprint", () => all("details").forEach((d) => { d.open = d.dataset.was === "true"; }));

// On a narrow screen the table of contents is folded at first.
if (matchMedia("(max-width: 68rem)").matches) all(".toc > details").forEach((d) => { d.open = false; });

all("pre[data-copy]").forEach((pre) => {
  const around = document.createElement("div");
  around.className = "copyable";
  pre.replaceWith(around);
  const button = Object.assign(document.createElement("button"), { className: "copy", type: "button", textContent: "Copy" });
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(pre.textContent.trim());
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(pre);
      button.textContent = "Press Ctrl+C";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  around.append(pre, button);
});

// The pages of HTMLReporter cannot be looked into, but tell their height.
addEventListener("message", (event) => {
  const height = Number(event.data && event.data.curidaskHeight);
  const frame = all("iframe.page:not([data-fixed])").find((f) => f.contentWindow === event.source);
  if (frame && height > 0) frame.style.height = `${Math.min(Math.max(height + 4, 60), 1400)}px`;
});

all("input[data-filter]").forEach((input) => {
  const rows = all(input.dataset.filter);
  const texts = rows.map((row) => (row.dataset.text || row.textContent).toLowerCase());
  const count = document.getElementById(input.dataset.count);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, i) => {
      row.hidden = !words.every((word) => texts[i].includes(word));
      shown += !row.hidden;
    });
    if (count) count.textContent = words.length ? `${shown} of ${rows.length}` : "";
  });
});

// Reportables by group, by record or by stage: each card knows all three.
all("[data-arrange]").forEach((tools) => {
  tools.hidden = false;
  const home = document.getElementById("arranged");
  const original = [...home.childNodes];
  const cards = all(".card", home);
  const places = new Map(cards.map((card) => [card, card.parentElement]));
  const arrange = (by) => {
    if (by === "group") {
      home.replaceChildren(...original);
      cards.forEach((card) => places.get(card).append(card));
      return;
    }
    const sections = new Map();
    const order = [...cards].sort((a, b) => a.dataset[`${by}Order`] - b.dataset[`${by}Order`]);
    for (const card of order) {
      const title = card.dataset[by];
      if (!sections.has(title)) {
        const heading = Object.assign(document.createElement("h3"), { textContent: title });
        const grid = Object.assign(document.createElement("div"), { className: "cards" });
        sections.set(title, [heading, grid]);
      }
      sections.get(title)[1].append(card);
    }
    home.replaceChildren(...[...sections.values()].flat());
  };
  all("button", tools).forEach((button) => button.addEventListener("click", () => {
    all("button", tools).forEach((other) => other.setAttribute("aria-pressed", other === button));
    arrange(button.dataset.by);
  }));
});

all("table[data-sort]").forEach((table) => {
  const body = table.tBodies[0];
  all("thead th", table).forEach((th, column) => {
    const button = Object.assign(document.createElement("button"), { type: "button", title: "Sort" });
    button.append(...th.childNodes);
    th.append(button);
    button.addEventListener("click", () => {
      const down = th.getAttribute("aria-sort") === "ascending";
      all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
      th.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const rows = [...body.rows].sort((a, b) => value(a).localeCompare(value(b), undefined, { numeric: true }));
      const numbers = rows.every((row) => value(row) === "" || Number.isFinite(Number(value(row))));
      if (numbers) rows.sort((a, b) => Number(value(a)) - Number(value(b)));
      body.append(...(down ? rows.reverse() : rows));
    });
  });
});

// The table of contents follows the page.
const links = new Map(all(".toc > details > ol > li > a").map((a) => [a.hash.slice(1), a]));
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    links.forEach((a) => a.removeAttribute("aria-current"));
    links.get(entry.target.id)?.setAttribute("aria-current", "true");
  }
}, { rootMargin: "-10% 0px -75% 0px" });
all("main > section[id]").forEach((section) => seen.observe(section));
