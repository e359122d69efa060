// Sends forms to the API, uploads files, and follows a search. Text of others is only ever set as text.
const word = document.querySelector("meta[name=word]").content;

async function ask(verb, path, body, type = "application/json") {
  const headers = { "X-CSRF-Token": word, ...(body === undefined ? {} : { "Content-Type": type }) };
  const answer = await fetch("/api/v1" + path, { method: verb, headers, body });
  const told = answer.status === 204 ? {} : await answer.json();
  if (!answer.ok) throw new Error(told.detail);
  return told;
}

// Fields named plan.x and plan.budget.x become a nested object; empty ones, and those of the kind none, do not.
function values(form) {
  const whole = {};
  for (const [name, value] of new FormData(form)) {
    if (typeof value !== "string" || value === "") continue;
    if (form.elements[name].dataset.kind === "none") continue;
    const path = name.split(".");
    let at = whole;
    for (const part of path.slice(0, -1)) at = at[part] ??= {};
    const number = form.elements[name].dataset.kind === "number";
    at[path.at(-1)] = number ? Number(value) : value;
  }
  return whole;
}

for (const form of document.querySelectorAll("form[data-path]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const said = document.getElementById("said");
    if (form.dataset.sure && !confirm(form.dataset.sure)) return;
    const buttons = form.querySelectorAll("button");
    said.textContent = form.dataset.wait ?? "…";
    for (const each of buttons) each.disabled = true;
    try {
      const verb = form.dataset.verb ?? "POST";
      const told = await ask(verb, form.dataset.path, verb === "DELETE" ? undefined : JSON.stringify(values(form)));
      if ("told" in form.dataset) {
        said.textContent = "";
        for (const [name, value] of Object.entries(told)) document.getElementById(`told-${name}`).textContent = value;
        return;
      }
      location.assign(form.dataset.next?.replace("{name}", told.name ?? "") ?? location.href);
    } catch (error) {
      said.textContent = error.message;
    } finally {
      for (const each of buttons) each.disabled = false;
    }
  });
}

// What a form says while it is filled in, rendered by the service; sliders write into the fields that they belong to.
for (const form of document.querySelectorAll("form[data-live]")) {
  const part = document.getElementById("live-part");
  let waiting;
  let latest;
  const look = () => {
    clearTimeout(waiting);
    waiting = setTimeout(async () => {
      if (form.dataset.needs && !form.elements[form.dataset.needs].value) return;
      const mine = (latest = {});
      const given = new URLSearchParams([...new FormData(form)].filter(([, value]) => typeof value === "string"));
      part.setAttribute("aria-busy", "true");
      const answer = await fetch(`${form.dataset.live}?${given}`).catch(() => undefined);
      if (answer?.ok && mine === latest) part.innerHTML = await answer.text();
      part.removeAttribute("aria-busy");
    }, 250);
  };
  for (const slider of form.querySelectorAll("[data-stops]")) {
    const stops = [...slider.dataset.stops.split("|"), ""];
    slider.hidden = false;
    slider.addEventListener("input", () => {
      form.elements[slider.dataset.for].value = stops[slider.value];
      slider.setAttribute("aria-valuetext", stops[slider.value] || "no limit");
    });
  }
  form.addEventListener("input", look);
}

const file = document.getElementById("file");
const data = document.getElementById("data");
const understood = document.getElementById("understood");
const looking = document.getElementById("look");

function offer(id, names) {
  const options = names.map((name) => Object.assign(document.createElement("option"), { value: name }));
  const list = document.getElementById(id);
  list.replaceChildren(...list.querySelectorAll("[data-own]"), ...options);
}

async function understand() {
  if (!data.value) {
    understood.textContent = "Choose a file first, or write a path.";
    return;
  }
  understood.textContent = "reading the data …";
  looking.disabled = true;
  const plan = values(data.form).plan ?? {};
  const given = ["task", "label", "text"].filter((name) => plan[name]);
  const fields = Object.fromEntries(given.map((name) => [name, plan[name]]));
  try {
    const told = await ask("POST", "/understand", JSON.stringify({ data: data.value, plan: fields }));
    const rows = told.examples.map((row) => row.join(" | "));
    understood.textContent = [`columns: ${told.columns.join(", ")}`, ...told.described, ...rows].join("\n");
    offer("columns", told.columns);
    offer("metrics", told.metrics);
    if (told.words) data.form.elements.tokens.value = 8 * Math.ceil((1.5 * told.words + 2) / 8);
    data.form.dispatchEvent(new Event("input"));
  } catch (error) {
    understood.textContent = error.message;
  } finally {
    looking.disabled = false;
  }
}

file?.addEventListener("change", async () => {
  const chosen = file.files[0];
  if (!chosen) return;
  understood.textContent = "uploading …";
  try {
    const path = `/uploads?name=${encodeURIComponent(chosen.name)}`;
    data.value = (await ask("POST", path, chosen, "application/octet-stream")).data;
    await understand();
  } catch (error) {
    understood.textContent = error.message;
  }
});
looking?.addEventListener("click", understand);

const live = document.getElementById("live");
if (live) {
  const log = document.getElementById("log");
  const standing = document.getElementById("standing");
  const state = document.getElementById("state");
  let waiting;
  const grow = () => {
    clearTimeout(waiting);
    waiting = setTimeout(async () => {
      const answer = await fetch(`/searches/${encodeURIComponent(live.dataset.name)}/parts`);
      if (answer.ok) live.innerHTML = await answer.text();
    }, 500);
  };
  const hear = (event) => {
    const told = JSON.parse(event.data);
    for (const line of told.lines ?? []) {
      const item = document.createElement("li");
      item.textContent = line;
      log.append(item);
      if (log.children.length > 500) log.firstChild.remove();
    }
    if (told.state) {
      state.textContent = told.reason ? `${told.state}: ${told.reason}` : told.state;
      for (const each of document.querySelectorAll("[data-in]")) {
        each.hidden = !each.dataset.in.split(" ").includes(told.state);
      }
    }
    if (told.standing) {
      const { doing, ended, trials, left } = told.standing;
      const minutes = left === null ? "" : `, about ${Math.ceil(left / 60)} min left`;
      standing.textContent = doing || `${ended}${trials ? ` of ${trials}` : ""} trials ended${minutes}`;
    }
    grow();
  };
  const source = new EventSource(`/api/v1/searches/${encodeURIComponent(live.dataset.name)}/events`);
  const kinds =
    "state doing begun baselines trial-began trial-reported trial-ended given-again turned-away confirming " +
    "trial-confirmed over";
  for (const kind of kinds.split(" ")) source.addEventListener(kind, hear);
}
