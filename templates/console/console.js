// What a browser adds to the pages of the console. Every page also works without it.
"use strict";

const find = (selector, root = document) => root.querySelector(selector);
const findAll = (selector, root = document) => [...root.querySelectorAll(selector)];
const isTyping = () => document.activeElement?.matches("input:not([type=checkbox]), textarea, select");

// ---- Following changes: a page waits while somebody types or has chosen rows, so that nothing moves under the cursor.

document.addEventListener("htmx:before:request", (event) => {
  const source = event.detail.ctx.sourceElement;
  if (source.id !== "main") return;
  const busy = document.activeElement?.matches("#main input, #main textarea, #main select, #unsent") || find("dialog[open]");
  if (busy || !getSelection().isCollapsed) event.preventDefault();
});

// ---- Trouble: a page that cannot refresh keeps what it shows, and says why; `name` is that of a text in #trouble.

let trouble = null;

function showTrouble(name) {
  // Signed out, the page tries nothing any more.
  if (trouble === "signed-out") return;
  trouble = name;
  for (const each of findAll("#trouble > p")) each.hidden = each.dataset.trouble !== name;
  if (name === "signed-out") find("#live")?.remove();
}

const nameTrouble = (status, other) => (status === 401 ? "signed-out" : [403, 404, 410].includes(status) ? "gone" : other);

document.addEventListener("htmx:response:error", (event) => {
  const { sourceElement: source, response } = event.detail.ctx;
  if (source.id === "main") showTrouble(nameTrouble(response.status, "failed"));
  if (source.id === "live") showTrouble(nameTrouble(response.status, "refused"));
  if (source.closest("#palette")) find("#palette-hits").textContent = "The search did not answer. Type again to repeat it.";
});
document.addEventListener("htmx:error", (event) => {
  if (event.detail.ctx?.sourceElement.id === "main") showTrouble("failed");
  if (event.detail.ctx?.sourceElement.id === "live") showTrouble("refused");
});
document.addEventListener("htmx:after:request", (event) => {
  const { sourceElement: source, response, text } = event.detail.ctx;
  if (source.id !== "main" || response.status >= 400) return;
  if (text.includes('<main id="main"')) {
    if (["failed", "gone"].includes(trouble)) showTrouble(null);
  } else {
    // Another server answered, such as a proxy.
    event.preventDefault();
    showTrouble("failed");
  }
});
document.addEventListener("htmx:sse:error", (event) => showTrouble(nameTrouble(event.detail.status, trouble === "refused" ? trouble : "lost")));
document.addEventListener("htmx:sse:after:connection", () => { if (["lost", "refused"].includes(trouble)) showTrouble(null); });

// ---- What was typed and not sent comes back once, to the same person in this tab: after sign-in, if the session ended
// before the form was sent; after a page that only refuses the form; and after an answer that never came. Passwords and
// codes are not kept.

const UNSENT = "unsent";
const UNSENT_MILLISECONDS = 24 * 3600 * 1000;
const SECRETS = "[type=password], [autocomplete=one-time-code], [data-secret]";
const here = () => document.body.dataset;

function readUnsent() {
  const kept = JSON.parse(sessionStorage.getItem(UNSENT) ?? "null");
  return kept && Date.now() - kept.at < UNSENT_MILLISECONDS ? kept : null;
}

function keepUnsent(kept) {
  try {
    sessionStorage.setItem(UNSENT, JSON.stringify(kept));
  } catch {
    // The tab has no room for it: a draft may still have it.
    sessionStorage.removeItem(UNSENT);
  }
}

function readForm(form, submitter) {
  const fields = [];
  const named = new Map([...form.elements].reverse().map((each) => [each.name, each]));
  for (const [name, value] of new FormData(form, submitter)) {
    const field = named.get(name);
    if (name === "csrf_token" || field?.matches(SECRETS) || typeof value !== "string") continue;
    fields.push([name, value, field?.type === "hidden" ? null : field?.labels?.[0]?.textContent.trim() ?? name]);
  }
  return { action: form.getAttribute("action"), to: submitter?.getAttribute("formaction") ?? form.getAttribute("action"), fields };
}

const startUnsent = (sent, forms) =>
  ({ who: here().who, account: here().account, page: here().page ?? null, at: Date.now(), sent, forms });

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (here().who === undefined || event.defaultPrevented || form.method !== "post" || form.matches(".leave")) return;
  keepUnsent(startUnsent(true, [readForm(form, event.submitter)]));
});

document.addEventListener("click", (event) => {
  if (!event.target.closest("[data-keeps-typed]")) return;
  keepUnsent(startUnsent(false, findAll("#main form").map((form) => readForm(form))));
});

// Other forms of a page may have the same address; then their hidden fields say which one it was.
function findFormOf({ action, fields }) {
  const forms = findAll("#main form").filter((form) => form.getAttribute("action") === action);
  const hidden = fields.filter(([, , label]) => label === null);
  return forms.find((form) => hidden.every(([name, value]) => form.elements[name]?.value === value)) ?? (forms.length === 1 ? forms[0] : null);
}

function fillForm(form, fields) {
  const left = [...fields];
  for (const field of findAll("input:not([type=hidden]), textarea, select", form)) {
    if (field.matches(SECRETS)) continue;
    const isChoice = field.type === "checkbox" || field.type === "radio";
    const before = isChoice ? field.checked : field.value;
    const at = left.findIndex(([name, value]) => name === field.name && (!isChoice || value === field.value));
    if (isChoice) field.checked = at >= 0;
    else if (at >= 0) field.value = left.splice(at, 1)[0][1];
    if (before !== (isChoice ? field.checked : field.value)) field.closest("details")?.setAttribute("open", "");
  }
}

function showUnsent(name, kept, beside) {
  const notice = find("#unsent");
  for (const each of findAll("[data-unsent]", notice)) each.hidden = each.dataset.unsent !== name;
  notice.hidden = false;
  if (name === "elsewhere") find("a", notice).href = kept.page;
  if (name === "alone") {
    find("dl", notice).replaceChildren(...kept.forms.flatMap(({ fields }) => fields).filter(([, , label]) => label !== null)
      .map(([, value, label]) => {
        const row = document.createElement("div");
        for (const [tag, text] of [["dt", label], ["dd", value]]) row.append(Object.assign(document.createElement(tag), { textContent: text }));
        return row;
      }));
  }
  beside?.before(notice);
  notice.focus();
}

function sendUnsent({ to, fields }) {
  const form = Object.assign(document.createElement("form"), { method: "post", action: to, hidden: true });
  for (const [name, value] of [...fields, ["csrf_token", find("input[name=csrf_token]").value]]) {
    form.append(Object.assign(document.createElement("textarea"), { name, value }));
  }
  document.body.append(form);
  form.requestSubmit();
}

function restoreUnsent() {
  // What one person typed is not for the next one in this tab. A page for everybody, such as sign-in, names nobody.
  const kept = readUnsent();
  const isRefusal = find("[data-refusal]") !== null;
  if (kept && isRefusal) keepUnsent({ ...kept, sent: false });
  if (here().who === undefined) return;
  if (here().who !== (sessionStorage.getItem("who") ?? here().who)) sessionStorage.clear();
  sessionStorage.setItem("who", here().who);
  if (!kept || kept.who !== here().who || kept.account !== here().account) return;
  const cameBack = performance.getEntriesByType("navigation")[0]?.type === "back_forward" && kept.page === here().page;
  if (kept.sent && !isRefusal && !cameBack) {
    // The service has answered it.
    sessionStorage.removeItem(UNSENT);
  } else if (kept.page === here().page || kept.page === null) {
    const found = kept.forms.map((each) => [findFormOf(each), each.fields]).filter(([form]) => form);
    for (const [form, fields] of found) fillForm(form, fields);
    if (found.length) showUnsent("again", kept, found[0][0]);
    else if (kept.forms.some(({ fields }) => fields.some(([, , label]) => label !== null))) showUnsent("alone", kept);
    if (found.length) sessionStorage.removeItem(UNSENT);
  } else if (isRefusal || kept.led) {
    showUnsent("elsewhere", kept);
  } else {
    keepUnsent({ ...kept, sent: false, led: true });
    location.replace(kept.page);
  }
}

document.addEventListener("click", (event) => {
  const act = event.target.closest("[data-unsent-act]")?.dataset.unsentAct;
  if (act === undefined) return;
  const kept = readUnsent();
  sessionStorage.removeItem(UNSENT);
  find("#unsent").hidden = true;
  if (act === "send" && kept) sendUnsent(kept.forms[0]);
});

// ---- Times: the local time and its zone, with UTC as its title. The server writes UTC. Both have 24 hours: after "p.m."
// a sentence would end with two full stops.

const localTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" });
// The axis of a plot has room for the hour alone, and names the zone once.
const localHour = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const localZone = new Intl.DateTimeFormat(undefined, { timeZoneName: "short" });

function nameZone(at) {
  return localZone.formatToParts(at).find(({ type }) => type === "timeZoneName").value;
}

function showLocalTimes(root) {
  for (const each of findAll("time[datetime]:not([title])", root)) {
    const at = new Date(each.dateTime);
    each.title = each.textContent;
    each.textContent = `${localTime.format(at)} ${nameZone(at)}`;
  }
  for (const each of findAll("text[data-instant]", root)) {
    each.textContent = localHour.format(new Date(each.dataset.instant));
    delete each.dataset.instant;
  }
  for (const each of findAll("text[data-zone]", root)) {
    each.textContent = nameZone(new Date());
    delete each.dataset.zone;
  }
}

// A deadline counts down: data-deadline has its instant, and the words beside it say what is due.
function showCountdowns() {
  for (const each of findAll("[data-deadline]")) {
    const seconds = Math.round((new Date(each.dataset.deadline) - Date.now()) / 1000);
    const [days, hours, rest] = [86400, 3600, 60].map((unit, at, all) =>
      Math.floor((at ? Math.abs(seconds) % all[at - 1] : Math.abs(seconds)) / unit));
    const parts = [[days, "d"], [hours, "h"], [rest, "min"]].filter(([count]) => count).slice(0, 2);
    const span = parts.map(([count, unit]) => `${count} ${unit}`).join(" ") || "less than a minute";
    each.textContent = seconds < 0 ? `overdue for ${span}` : `due in ${span}`;
    each.classList.toggle("refusal", seconds < 0);
  }
}

// ---- Copying: <button data-copy="text">, or without a text that of the element before it. A browser copies only for
// pages that came over https or from this machine.

function hideCopying() {
  for (const each of findAll("[data-copy]")) each.hidden = !navigator.clipboard;
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.dataset.copy || button.previousElementSibling.textContent);
  const label = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = label; }, 1500);
});

// ---- Choosing rows: <input type="checkbox" data-all="name"> chooses every row's box of that name in its form.

document.addEventListener("change", (event) => {
  const name = event.target.dataset.all;
  if (name === undefined) return;
  for (const box of findAll(`input[name="${name}"]`, event.target.form)) box.checked = event.target.checked;
});

// ---- Drafts: <form data-draft="key"> keeps what was typed in this tab, in case the session ends before it is sent.

// A field has its own key if its name is only its place in the form: the next time, another field may have that place.

const readDraft = (form) => JSON.parse(sessionStorage.getItem(`draft:${form.dataset.draft}`) ?? "{}");
const keyOf = (field) => field.dataset.key ?? field.name;

document.addEventListener("input", (event) => {
  const form = event.target.form;
  if (form?.dataset.draft === undefined) return;
  const draft = { ...readDraft(form), [keyOf(event.target)]: event.target.value };
  sessionStorage.setItem(`draft:${form.dataset.draft}`, JSON.stringify(draft));
});

function restoreDrafts() {
  for (const form of findAll("form[data-draft]:not([data-restored])")) {
    form.dataset.restored = "";
    const draft = readDraft(form);
    for (const each of findAll("input:not([type=hidden]), textarea, select", form)) {
      if (Object.hasOwn(draft, keyOf(each))) each.value = draft[keyOf(each)];
    }
  }
}

document.addEventListener("submit", (event) => {
  if (event.target.matches(".leave")) sessionStorage.clear();
});

// ---- Keyboard

const PAGES = { t: "/console", i: "/console/inbox", e: "/console/exports", p: "/console/partners", d: "/console/deliveries?state=dead" };
let waitsForPage = false;

function moveRow(step) {
  const links = findAll("#main tbody tr").map((row) => find("a[href]", row)).filter(Boolean);
  if (!links.length) return;
  const at = links.indexOf(document.activeElement);
  links[Math.min(Math.max(at < 0 && step < 0 ? 0 : at + step, 0), links.length - 1)].focus();
}

document.addEventListener("keydown", (event) => {
  const palette = find("#palette");
  if (!palette) return;
  if (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    openPalette(palette);
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping() || find("dialog[open]")) return;
  if (waitsForPage && PAGES[event.key]) {
    location.href = PAGES[event.key];
  } else if (event.key === "/") {
    event.preventDefault();
    find(".search").focus();
  } else if (event.key === "?") {
    openPalette(palette);
  } else if (event.key === "j" || event.key === "k") {
    moveRow(event.key === "j" ? 1 : -1);
  }
  waitsForPage = event.key === "g";
});

// ---- The command palette: pages and exports by any of their numbers

function openPalette(palette) {
  if (!palette.open) palette.showModal();
  const field = find("input", palette);
  field.value = "";
  showChoices(palette, "");
  field.focus();
}

function showChoices(palette, wanted) {
  for (const each of findAll("li[data-command]", palette)) {
    each.hidden = !each.textContent.toLowerCase().includes(wanted.toLowerCase());
  }
}

document.addEventListener("input", (event) => {
  const palette = event.target.closest("#palette");
  if (palette) showChoices(palette, event.target.value);
});

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-opens-palette]");
  if (opener) openPalette(find("#palette"));
  // A click beside the box meets the dialog itself.
  if (event.target.id === "palette") event.target.close();
});

document.addEventListener("keydown", (event) => {
  const palette = event.target.closest("#palette");
  if (!palette) return;
  const links = findAll("a", palette).filter((each) => each.offsetParent);
  const at = links.indexOf(document.activeElement);
  if (event.key === "Escape") {
    // A search field would only become empty.
    event.preventDefault();
    palette.close();
  } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    (links[at + (event.key === "ArrowDown" ? 1 : -1)] ?? find("input", palette)).focus();
  } else if (event.key === "Enter" && at < 0 && links.length) {
    // The first export, else the first page that matches; the form's own search if nothing does.
    event.preventDefault();
    (find("#palette-hits a", palette) ?? links[0]).click();
  }
});

// ---- A part that is wider than the window scrolls, also by keyboard.

function showScrollers() {
  for (const each of findAll(".card")) {
    if (each.scrollWidth > each.clientWidth) each.tabIndex = 0;
    else each.removeAttribute("tabindex");
  }
}

// ----

function show(root) {
  showLocalTimes(root);
  showCountdowns();
  showScrollers();
  hideCopying();
  restoreDrafts();
}

document.addEventListener("DOMContentLoaded", () => {
  show(document);
  restoreUnsent();
});
document.addEventListener("htmx:after:swap", () => show(document));
addEventListener("resize", showScrollers);
document.addEventListener("toggle", showScrollers, true);
setInterval(showCountdowns, 15000);
