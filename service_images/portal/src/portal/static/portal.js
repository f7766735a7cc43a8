// What works without this file works better with it: answers arrive word by word, and texts are copied with a button.
"use strict";

for (const button of document.querySelectorAll("button[data-copy]")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  const text = button.textContent;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = text; }, 1500);
  });
}

const form = document.getElementById("ask");
if (form && window.ReadableStream && window.TextDecoderStream) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    stream(form).catch(() => show("problem", "The answer was interrupted: the connection has ended."));
  });
}

function show(kind, text) {
  const place = document.createElement("p");
  place.className = kind === "problem" ? "notice bad" : "text";
  place.textContent = text;
  document.getElementById("answer").append(place);
  return place;
}

function fact(term, text) {
  const row = document.createElement("div");
  for (const [name, content] of [["dt", term], ["dd", text]]) {
    const part = document.createElement(name);
    part.textContent = content;
    row.append(part);
  }
  document.getElementById("bill").append(row);
}

function take(line, place) {
  const event = JSON.parse(line);
  if (event.text) place.textContent += event.text;
  if (event.problem) show("problem", event.problem);
  if (event.guard) fact("Guard verdict", event.guard);
  if (event.input !== undefined) {
    fact("Tokens read", String(event.input));
    fact("Tokens written", String(event.output));
    fact("Cost", event.cost || "no price is set, or your key may not see prices");
  }
}

async function stream(asked) {
  const answer = document.getElementById("answer");
  const button = asked.querySelector("button");
  answer.replaceChildren();
  document.getElementById("bill").replaceChildren();
  const place = show("text", "");
  button.disabled = true;
  answer.setAttribute("aria-busy", "true");
  try {
    const response = await fetch(asked.dataset.stream, { method: "POST", body: new URLSearchParams(new FormData(asked)) });
    if (response.redirected || !response.ok) {
      if (response.redirected) location.reload();
      else show("problem", `The Portal answered ${response.status}. Load the page again.`);
      return;
    }
    let rest = "";
    for await (const piece of pieces(response.body.pipeThrough(new TextDecoderStream()))) {
      const lines = (rest + piece).split("\n");
      rest = lines.pop();
      lines.filter(Boolean).forEach((line) => take(line, place));
    }
  } finally {
    button.disabled = false;
    answer.removeAttribute("aria-busy");
  }
}

async function* pieces(body) {
  const reader = body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}
