// The ways in for pictures: chosen, photographed, dropped anywhere on the page, or pasted.

import { Problem } from "./api.js";
import { showProblem } from "./dom.js";

const place = document.getElementById("intake-problem");

/** Call onPictures with an array of Files, in the order they came, however they came. */
export function listen(onPictures) {
  const take = (files, complaint) => {
    place.replaceChildren();
    if (files.length) onPictures(files);
    else if (complaint) showProblem(place, new Problem(complaint));
  };

  for (const input of document.querySelectorAll(".zone input")) {
    input.addEventListener("change", () => {
      take([...input.files]);
      input.value = ""; // the same file may be chosen again
    });
  }

  const dragging = (is) => document.body.classList.toggle("dragging", is);
  addEventListener("dragover", (event) => {
    if (isText(event.target) && !event.dataTransfer.types.includes("Files")) return;
    event.preventDefault(); // or the browser leaves the page for the file
    dragging(true);
  });
  addEventListener("dragleave", ({ relatedTarget }) => {
    if (relatedTarget === null) dragging(false); // left the window, not one element for another
  });
  addEventListener("drop", (event) => {
    dragging(false);
    const files = [...event.dataTransfer.files];
    if (isText(event.target) && !files.length) return;
    event.preventDefault();
    take(files, {
      title: "That was not a picture file",
      detail: "Only files can be dropped here. Save the picture first, or copy it and paste it.",
    });
  });

  addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (isText(event.target) && !files.length) return;
    event.preventDefault();
    take(files.map(named), {
      title: "There is no picture in the clipboard",
      detail: "Copy a picture, not its address, and paste it again.",
    });
  });
}

/** Browsers call whatever is pasted from a screen "image.png". */
function named(file) {
  return file.name === "image.png" ? new File([file], "Pasted picture", { type: file.type }) : file;
}

function isText(target) {
  return target instanceof HTMLElement && target.matches("textarea, input:not([type=file])");
}
