// What a person thinks of a caption: right, wrong, or what it should have said. All of it can be taken back.

import { deleteFeedback, models, sendFeedback } from "./api.js";
import { announce, showProblem } from "./dom.js";

export class Feedback {
  #root;
  #about;
  #first; // the caption that the server thought best
  #shown; // the one on the page: that one, or another of its captions
  #sent = []; // ids of what the server has stored; more than one only where an older one could not be deleted
  #draft = null; // a sentence that was begun and cancelled, or taken back
  #before = ""; // the state that editing began in
  #busy = false;

  /**
   * root: the .result of a card; its data-state is asking, editing, rated or corrected, and CSS shows what belongs.
   * about: { captionId, picture, onChange }, where picture is what openPicture gave, and onChange is called with the
   * person's own sentence, or with null when it is taken back. first: the caption that the server thought best.
   */
  constructor(root, about, first) {
    this.#root = root;
    this.#about = about;
    this.#first = first;
    root.dataset.state = "asking";
    this.ask(first);
    this.#on(".up", "click", () => this.#rate());
    this.#on(".down", "click", () => this.#send({ rating: "bad" }, "Thank you. What would be right?"));
    this.#on(".correct", "click", () => this.#edit());
    this.#on(".teach", "click", () => this.#edit());
    this.#on(".undo", "click", () => this.#undo());
    this.#on(".cancel", "click", () => this.#stopEditing());
    this.#on(".editor", "submit", (event) => this.#submit(event));
    this.#on("textarea", "keydown", (event) => this.#key(event));
    this.#on("textarea", "input", ({ target }) => target.setCustomValidity(""));
    // A request that failed must not be repeated with what the person has since thought better of.
    for (const field of ["textarea", ".keep input"]) {
      this.#on(field, "input", () => this.#find(".feedback-problem").replaceChildren());
    }
    models().then(
      ({ pictures_kept: kept }) => (this.#find(".keep").hidden = !kept),
      () => {}, // unknown: then no picture is offered
    );
  }

  /** Another of the captions is shown: what is asked is now about that one. */
  ask(text) {
    this.#shown = text;
    const best = text === this.#first;
    this.#find(".ask h3").textContent = best ? "Is this right?" : "Is this one better?";
    // "No" would say that the first caption is wrong, which nobody asked.
    this.#find(".down").hidden = !best;
  }

  #rate() {
    // Another caption being better is a correction of the first, which is what the server's captions stand for.
    const opinion = this.#shown === this.#first ? { rating: "good" } : { rating: "bad", correction: this.#shown };
    this.#send(opinion, "Thank you.");
  }

  #edit() {
    const field = this.#find("textarea");
    field.value = this.#draft ?? this.#shown;
    this.#before = this.#root.dataset.state;
    this.#root.dataset.state = "editing";
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }

  #stopEditing() {
    const { value } = this.#find("textarea");
    this.#draft = value === this.#shown ? null : value;
    this.#root.dataset.state = this.#before;
    this.#find(".feedback-problem").replaceChildren();
    this.#find(".correct").focus();
  }

  #key(event) {
    // A caption is one sentence: Enter ends it. In the middle of composing a character, it does not.
    if (event.key === "Enter" && !event.isComposing) {
      event.preventDefault();
      this.#find(".editor").requestSubmit();
    } else if (event.key === "Escape") {
      this.#stopEditing();
    }
  }

  #submit(event) {
    event.preventDefault();
    const field = this.#find("textarea");
    const correction = field.value.trim().replace(/\s+/g, " ");
    if (correction === "" || correction === this.#first) {
      field.setCustomValidity(correction ? "This is the model's own sentence." : "Please write a sentence.");
      field.reportValidity();
    } else {
      this.#draft = correction; // still there after an undo
      this.#send({ rating: "bad", correction }, "Thank you for your sentence.", correction);
    }
  }

  /** Send an opinion; its Idempotency-Key makes trying again safe where only the answer was lost. */
  async #send(opinion, thanks, own = null) {
    const { captionId, picture } = this.#about;
    const keep = this.#find(".keep");
    const given = !keep.hidden && keep.querySelector("input").checked && { picture: picture.blob, name: picture.name };
    const key = randomKey();
    await this.#attempt(async () => {
      const older = this.#sent;
      const { id, picture_kept: kept } = await sendFeedback({ captionId, ...opinion, ...given }, key);
      this.#sent = [...older, id];
      if (own) this.#about.onChange(own);
      this.#root.dataset.state = own ? "corrected" : "rated";
      this.#find(".teach").hidden = opinion.rating === "good" || "correction" in opinion;
      this.#find(".thanks-text").textContent = kept ? `${thanks} The picture is kept with it.` : thanks;
      this.#find(".thanks-text").focus({ preventScroll: true });
      this.#withdraw(older).catch(() => {}); // one person, one opinion; "Undo" tries once more
    });
  }

  async #undo() {
    await this.#attempt(async () => {
      await this.#withdraw(this.#sent);
      this.#root.dataset.state = "asking";
      this.#about.onChange(null);
      announce("Taken back.");
      this.#find(".up").focus();
    });
  }

  async #withdraw(ids) {
    for (const id of ids) {
      await deleteFeedback(id);
      this.#sent = this.#sent.filter((other) => other !== id);
    }
  }

  async #attempt(action) {
    if (this.#busy) return;
    this.#busy = true;
    this.#root.setAttribute("aria-busy", "true");
    const place = this.#find(".feedback-problem");
    place.replaceChildren();
    try {
      await action();
    } catch (problem) {
      showProblem(place, problem, () => this.#attempt(action));
    } finally {
      this.#busy = false;
      this.#root.removeAttribute("aria-busy");
    }
  }

  #find(selector) {
    return this.#root.querySelector(selector);
  }

  #on(selector, event, listener) {
    this.#find(selector).addEventListener(event, listener);
  }
}

/** crypto.randomUUID exists in secure contexts only, and a server in the house is often plain HTTP. */
function randomKey() {
  return (
    crypto.randomUUID?.() ??
    Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("")
  );
}
