// What is live: parts of the page that came anew replace the old ones, but only where they differ,
// so that nothing jumps and focus, selection and scroll stay. htmx asks; status 286 ends the asking.
"use strict";

const told = (part) => {
  const copy = part.cloneNode(true);
  for (const clock of copy.querySelectorAll("[data-since], time.ago")) clock.textContent = "";
  for (const token of copy.querySelectorAll("[name=csrfmiddlewaretoken]")) token.remove();
  for (const folded of copy.querySelectorAll("details")) folded.open = false;
  return copy.innerHTML;
};

// Where the focus was, so that it finds its way back into a part that came anew.
const way = (element) => {
  for (const name of ["id", "href", "name"]) {
    if (element.hasAttribute(name)) return `[${name}="${CSS.escape(element.getAttribute(name))}"]`;
  }
  return element.form ? `form[action="${CSS.escape(element.form.getAttribute("action"))}"] button` : null;
};

const replace = (html) => {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  for (const part of fresh.querySelectorAll("[data-part]")) {
    const old = document.getElementById(part.id);
    if (!old || told(old) === told(part)) continue;
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const back = focused && way(focused);
    old.replaceChildren(...document.importNode(part, true).childNodes);
    if (back) old.querySelector(back)?.focus({ preventScroll: true });
  }
  for (const rows of fresh.querySelectorAll("[data-rows]")) extend(document.getElementById(rows.dataset.rows), rows.children);
  tick();
};

// A log only grows: what stands there is not touched.
const extend = (log, rows) => {
  const grow = log.dataset.newest === "first" ? "prepend" : "append";
  for (const row of [...rows]) if (!document.getElementById(row.id)) log[grow](document.importNode(row, true));
};

const lost = document.getElementById("lost");
document.addEventListener("htmx:afterRequest", (event) => {
  if (lost) lost.hidden = Boolean(event.detail.successful);
  if (event.detail.successful && event.target.closest("[data-live]")) replace(event.detail.xhr.responseText);
});

// Where this browser is, for people who did not choose a time zone: no header tells it.
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone) document.cookie = `dbmaint_time_zone=${zone}; path=/; max-age=31536000; samesite=lax`;

// Clocks run by the server's time, which the page was made with.
const skew = Number(document.body.dataset.now) * 1000 - Date.now();
const two = (number) => String(number).padStart(2, "0");
function tick() {
  for (const clock of document.querySelectorAll("[data-since]")) {
    const seconds = Math.max(0, Math.floor((Date.now() + skew) / 1000 - Number(clock.dataset.since)));
    clock.textContent = `${two(Math.floor(seconds / 3600))}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
  }
}
// Ages grow while nothing else changes; words come from the page, in its language.
const AGES = [[60, 1, "seconds"], [3600, 60, "minutes"], [172800, 3600, "hours"]];
function age() {
  for (const time of document.querySelectorAll("time.ago[datetime]")) {
    const seconds = Math.max(0, Math.floor((Date.now() + skew - Date.parse(time.dateTime)) / 1000));
    const unit = AGES.find(([below]) => seconds < below);
    if (unit) time.textContent = document.body.dataset[unit[2]].replace("{count}", Math.floor(seconds / unit[1]));
  }
}
setInterval(() => { tick(); age(); }, 1000);

// Commands to copy. Without a clipboard, as on an address without TLS, the command is selected.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  if (navigator.clipboard) navigator.clipboard.writeText(button.dataset.copy);
  else getSelection().selectAllChildren(button.previousElementSibling);
});
