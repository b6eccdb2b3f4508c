// Fetches the page every few seconds and replaces its content. Pages also work without this script: the browser then
// reloads them.
"use strict";

const SECONDS = 5;
const PATIENCE = 10;
const main = document.getElementById("main");
const fresh = document.getElementById("fresh");
let url = location.href;
let running = null;

const focusable = () => [...main.querySelectorAll("a, summary, [tabindex]")];

/** Rows change places, so a link is found again by its target, and anything else that can have the focus by its position. */
const identity = (element) => element.getAttribute("href") ?? element.getAttribute("aria-label");

/** What the user has changed must survive new content: open details, scrolled tables, the focus. */
function kept() {
  const focused = document.activeElement;
  const inMain = main.contains(focused) && focused !== main && !focused.closest("form.filter");
  return {
    open: [...main.querySelectorAll("details")].map((each) => each.open),
    scrolled: [...main.querySelectorAll(".scroll, pre")].map((each) => each.scrollLeft),
    focus: inMain ? { number: focusable().indexOf(focused), identity: identity(focused) } : null,
  };
}

function restore(before) {
  main.querySelectorAll("details").forEach((each, i) => { if (i in before.open) each.open = before.open[i]; });
  main.querySelectorAll(".scroll, pre").forEach((each, i) => { each.scrollLeft = before.scrolled[i] || 0; });
  if (before.focus) {
    const all = focusable();
    const same = before.focus.identity && all.find((each) => identity(each) === before.focus.identity);
    (same || all[before.focus.number] || main).focus({ preventScroll: true });
  }
}

/** The filter keeps whatever the user is typing; only the content around it is replaced. */
function replace(next) {
  const own = main.querySelector("form.filter"), form = next.querySelector("form.filter");
  if (!own || !form) { main.replaceChildren(...next.childNodes); return; }
  const nodes = [...next.childNodes], at = nodes.indexOf(form);
  for (const each of [...main.childNodes]) if (each !== own) each.remove();
  own.before(...nodes.slice(0, at));
  own.after(...nodes.slice(at + 1));
}

function old(why) {
  fresh.classList.add("stale");
  fresh.textContent = why + "; this page is out of date";
}

async function update() {
  if (running) running.abort();
  const own = running = new AbortController();
  const patience = setTimeout(() => { own.abort(); old("no answer from the daemon"); }, PATIENCE * 1000);
  try {
    const response = await fetch(url, { headers: { Accept: "text/html" }, signal: own.signal });
    if (!response.ok) { old("the daemon answered " + response.status); return; }
    const next = new DOMParser().parseFromString(await response.text(), "text/html");
    const before = kept();
    const top = scrollY;
    replace(next.getElementById("main"));
    restore(before);
    scrollTo({ top, behavior: "instant" });
    fresh.replaceChildren(...next.getElementById("fresh").childNodes);
    fresh.classList.remove("stale");
    document.title = next.title;
  } catch (error) {
    if (error.name !== "AbortError") old("no answer from the daemon");
  } finally {
    clearTimeout(patience);
    if (running === own) running = null;
  }
}

/** The filter is a form; with this script it applies as the user types. */
let typing = 0;
function filter(form) {
  clearTimeout(typing);
  const wanted = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value) wanted.set(name, value);
  const query = wanted.toString();
  url = new URL(form.getAttribute("action") + (query ? "?" + query : ""), location.href).href;
  history.replaceState(null, "", url);
  update();
}
main.addEventListener("input", (event) => {
  const form = event.target.closest("form.filter");
  if (!form) return;
  clearTimeout(typing);
  typing = setTimeout(() => filter(form), 150);
});
main.addEventListener("submit", (event) => {
  if (!event.target.matches("form.filter")) return;
  event.preventDefault();
  filter(event.target);
});

setInterval(() => { if (!document.hidden && !running) update(); }, SECONDS * 1000);
document.addEventListener("visibilitychange", () => { if (!document.hidden) update(); });
