// Copying, with a word that it has been done.

import { announce } from "./dom.js";

const THANKS = 1800; // milliseconds

/** An HTML alt attribute with this text. */
export function altAttribute(text) {
  const escaped = text.replace(/&/g, "&amp;").replace(/"/g, "&quot;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  return `alt="${escaped}"`;
}

/** Let a button copy what `text()` gives when it is pressed. */
export function copies(button, text) {
  const label = button.querySelector("span");
  const name = label.textContent;
  let timer = 0;
  button.addEventListener("click", async () => {
    const done = await copy(text());
    label.textContent = done ? "Copied" : "Please select and copy it yourself";
    announce(label.textContent);
    button.classList.toggle("done", done);
    clearTimeout(timer);
    timer = setTimeout(() => {
      label.textContent = name;
      button.classList.remove("done");
    }, THANKS);
  });
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyTheOldWay(text);
  }
}

/** On plain HTTP beyond localhost there is no navigator.clipboard. */
function copyTheOldWay(text) {
  const before = document.activeElement;
  const field = Object.assign(document.createElement("textarea"), { value: text, className: "visually-hidden" });
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  before?.focus({ preventScroll: true });
  return done;
}
