// The few things that every part of the page does with the document.

/** The one element of a <template>, ready to be filled. */
export function clone(template) {
  return document.getElementById(template).content.firstElementChild.cloneNode(true);
}

/** Say something to those who hear the page. A log keeps what is said close together apart. */
export function announce(text) {
  const news = document.getElementById("news");
  const line = document.createElement("p");
  line.textContent = text;
  news.append(line);
  while (news.childElementCount > 5) news.firstElementChild.remove();
}

/** Show a Problem inside `place`, instead of what was there, with a way to try again where that may help. */
export function showProblem(place, problem, again) {
  if (!problem.title) {
    console.error(problem); // a fault of this page, or an answer that is not what the contract says
    problem = { title: "Something went wrong on this page", detail: String(problem), passes: true };
  }
  const notice = clone("problem");
  const say = (part, text) => {
    const line = notice.querySelector(part);
    line.textContent = text;
    line.hidden = !text;
  };
  say(".title", problem.title);
  say(".detail", problem.detail);
  say(".wait", problem.wait ? `Please wait ${counted(problem.wait, "second")} before you try again.` : "");
  const ours = problem.status >= 500; // then the operator can look it up in the log
  say(".reference", ours && problem.reference ? `Reference for the operator: ${problem.reference}` : "");
  const button = notice.querySelector(".again");
  button.hidden = !(again && problem.passes);
  button.addEventListener("click", () => {
    place.closest(".card")?.focus({ preventScroll: true }); // the button goes away, the person's place must not
    again();
  });
  place.replaceChildren(notice);
}

/** "1 second", "2 seconds". */
export function counted(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
