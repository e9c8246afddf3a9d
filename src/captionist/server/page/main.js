// Where the page starts.

import { models } from "./api.js";
import { Card } from "./card.js";
import { showProblem } from "./dom.js";
import { listen } from "./intake.js";

const cards = document.getElementById("cards");

listen((files) => {
  document.body.classList.add("started");
  const added = files.map((file) => new Card(file, onRemove));
  cards.prepend(...added.map(({ element }) => element)); // newest first; those that came together keep their order
  added[0].element.scrollIntoView({ block: "nearest" });
  for (const card of added) card.run();
});

function onRemove() {
  const next = cards.querySelector(".card");
  (next ?? document.getElementById("choose")).focus();
  document.body.classList.toggle("started", next !== null);
}

async function meet() {
  const place = document.getElementById("intake-problem");
  place.replaceChildren();
  try {
    const { models: all, pictures_kept: kept } = await models();
    const model = all.find((one) => one.default) ?? all[0];
    document.getElementById("model").textContent = `Model ${model.name}, version ${model.version}.`;
    document.getElementById("privacy").textContent = kept
      ? "Pictures go only to this server, and it keeps one only if you tick the box."
      : "Pictures go only to this server, and it does not keep them.";
  } catch (problem) {
    showProblem(place, problem, meet);
  }
}

meet();
