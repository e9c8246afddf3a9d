// A caption as words that light up where the model looked.

import { whereabouts } from "./heatmap.js";

const HINT = `${matchMedia("(hover: none)").matches ? "Tap" : "Point at"} a word to see where the model looked.`;

/**
 * Write a caption of the server into `place`. Hovering, focusing or tapping a word shows its heat map, and `where`
 * says the same in words. A caption without attention stays plain text.
 */
export function writeWords(place, { text, words }, heatMap, where) {
  heatMap.show(null);
  where.textContent = "";
  place.replaceChildren(text);
  if (!words?.length) return;

  const heats = words.map(({ weights }) => weights); // how much more than for the other words, from 0 to 1
  const written = text.split(/\s+/);
  const labels = written.length === words.length ? written : words.map(({ word }) => word);

  // The whole sentence for those who hear it, and the words as a toolbar: one tab stop, then the arrow keys.
  const spoken = Object.assign(document.createElement("span"), { className: "visually-hidden", textContent: text });
  const bar = document.createElement("span");
  bar.setAttribute("role", "toolbar");
  bar.setAttribute("aria-label", "Where the model looked, word by word");
  const buttons = labels.map((label, index) => wordButton(label, heats[index], index === 0));
  bar.append(...buttons.flatMap((button) => [button, " "]));
  place.replaceChildren(spoken, bar);

  const state = { hovered: null, focused: null, pinned: null };
  const update = (change) => {
    Object.assign(state, change);
    const index = state.hovered ?? state.focused ?? state.pinned;
    heatMap.show(index === null ? null : heats[index]);
    where.textContent =
      index === null ? HINT : `For “${words[index].word}”, it looked most at ${whereabouts(heats[index])}.`;
    buttons.forEach((button, other) => {
      button.classList.toggle("lit", other === index);
      button.setAttribute("aria-pressed", String(other === state.pinned));
    });
  };
  buttons.forEach((button, index) => {
    // Touch has no hovering: there a tap pins a word, another one lets it go.
    button.addEventListener("pointerenter", ({ pointerType }) => pointerType !== "touch" && update({ hovered: index }));
    button.addEventListener("pointerleave", () => update({ hovered: null }));
    button.addEventListener("focus", () => update({ focused: button.matches(":focus-visible") ? index : null }));
    button.addEventListener("blur", () => update({ focused: null }));
    button.addEventListener("click", () => update({ pinned: state.pinned === index ? null : index }));
  });
  bar.addEventListener("keydown", (event) => {
    if (event.key === "Escape") update({ hovered: null, focused: null, pinned: null });
    move(buttons, event);
  });
  update({});
}

function wordButton(label, heat, first) {
  const button = Object.assign(document.createElement("button"), { type: "button", className: "word" });
  button.textContent = label;
  button.setAttribute("aria-label", `${label} (it looked most at ${whereabouts(heat)})`);
  button.tabIndex = first ? 0 : -1;
  return button;
}

/** The keys of a toolbar: https://www.w3.org/WAI/ARIA/apg/patterns/toolbar/ */
function move(buttons, event) {
  const here = buttons.indexOf(document.activeElement);
  const last = buttons.length - 1;
  const { key } = event;
  const next = { ArrowRight: Math.min(here + 1, last), ArrowLeft: Math.max(here - 1, 0), Home: 0, End: last }[key];
  if (next === undefined) return;
  event.preventDefault();
  buttons.forEach((button, index) => (button.tabIndex = index === next ? 0 : -1));
  buttons[next].focus();
}
