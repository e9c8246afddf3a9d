// One picture on the page: from the file to its captions, and what can be done with them.

import { caption, models } from "./api.js";
import { altAttribute, copies } from "./clipboard.js";
import { announce, clone, showProblem } from "./dom.js";
import { Feedback } from "./feedback.js";
import { HeatMap } from "./heatmap.js";
import { openPicture } from "./picture.js";
import { inTurn } from "./turns.js";
import { writeWords } from "./words.js";

let count = 0;

export class Card {
  element = clone("card");
  #file;
  #picture = null;
  #captions = [];
  #chosen = 0;
  #own = null; // the person's own sentence, where they gave one
  #feedback = null;
  #heatMap = new HeatMap(this.#find("canvas"));
  #removed = new AbortController();

  /** onRemove is called when the person has taken the card away. */
  constructor(file, onRemove) {
    this.#file = file;
    this.#find(".name").textContent = file.name;
    this.#find(".name").id = `picture-${++count}`;
    this.element.setAttribute("aria-labelledby", this.#find(".name").id);
    this.#find("img").alt = `Your picture ${file.name}`;
    this.#find(".remove").setAttribute("aria-label", `Remove ${file.name}`);
    this.#find(".remove").addEventListener("click", () => {
      this.#removed.abort();
      URL.revokeObjectURL(this.#find("img").src);
      this.element.remove();
      onRemove();
    });
    copies(this.#find(".copy-text"), () => this.#text);
    copies(this.#find(".copy-alt"), () => altAttribute(this.#text));
  }

  /** Caption the picture; what goes wrong is shown in the card, and can be tried again there. */
  async run() {
    this.#find(".caption-problem").replaceChildren();
    this.#progress("Waiting for its turn");
    try {
      this.#picture ??= await this.#open();
      const answer = await inTurn(async () => {
        this.#removed.signal.throwIfAborted(); // taken away while it waited
        this.#progress("Looking at it");
        return caption(this.#picture.blob, this.#picture.name, this.#removed.signal);
      });
      this.#show(answer);
    } catch (problem) {
      if (this.#removed.signal.aborted) return;
      showProblem(this.#find(".caption-problem"), problem, () => this.run());
    } finally {
      this.#progress("");
    }
  }

  async #open() {
    const known = await models().catch(() => null); // unknown limits: the server will say what is too much
    const picture = await openPicture(this.#file, this.#find("img"), known?.limits ?? null);
    const frame = this.#find(".frame");
    if (picture.ratio) frame.style.setProperty("--ratio", picture.ratio);
    frame.classList.toggle("unseen", !picture.ratio);
    this.#find(".note").textContent = picture.note;
    return picture;
  }

  #show({ id, captions }) {
    this.#captions = captions;
    if (!captions.length) {
      this.#find(".where").textContent = "The model is not confident enough to describe this picture.";
      announce(this.#find(".where").textContent);
      return;
    }
    const about = { captionId: id, picture: this.#picture, onChange: (own) => this.#correct(own) };
    this.#feedback = new Feedback(this.#find(".result"), about, captions[0].text);
    this.#list();
    this.#choose(0);
    this.#find(".result").hidden = false;
    announce(`${this.#file.name}: ${captions[0].text} Confidence ${percent(captions[0].confidence)}.`);
  }

  /** The captions that the model thought less likely; each can take the first one's place, and the first come back. */
  #list() {
    const list = this.#find(".others ul");
    list.replaceChildren(
      ...this.#captions.map(({ text, confidence }, index) => {
        const button = Object.assign(document.createElement("button"), { type: "button", className: "other bare" });
        const figure = Object.assign(document.createElement("span"), { className: "figure muted" });
        figure.textContent = percent(confidence);
        button.append(text, " ", figure);
        button.addEventListener("click", () => {
          this.#choose(index);
          this.#find(".word")?.focus();
          announce(text);
        });
        const item = document.createElement("li");
        item.append(button);
        return item;
      }),
    );
    this.#find(".others").hidden = this.#captions.length < 2;
  }

  #choose(index) {
    this.#chosen = index;
    this.#own = null;
    const { text, confidence } = this.#captions[index];
    writeWords(this.#find(".sentence"), this.#captions[index], this.#heatMap, this.#find(".where"));
    this.#find(".confidence .figure").textContent = `Confidence ${percent(confidence)}`;
    this.#find(".bar span").style.inlineSize = `${100 * confidence}%`;
    [...this.#find(".others ul").children].forEach((item, other) => (item.hidden = other === index));
    this.#find("img").alt = text;
    this.#feedback.ask(text);
  }

  #correct(own) {
    if (own === null) {
      this.#choose(this.#chosen);
      return;
    }
    this.#own = own;
    this.#heatMap.show(null);
    this.#find(".where").textContent = "";
    this.#find(".sentence").textContent = own;
    this.#find("img").alt = own;
  }

  get #text() {
    return this.#own ?? this.#captions[this.#chosen].text;
  }

  #progress(text) {
    this.#find(".progress").hidden = !text;
    this.#find(".progress-text").textContent = text;
  }

  #find(selector) {
    return this.element.querySelector(selector);
  }
}

function percent(share) {
  return share > 0 && share < 0.01 ? "under 1 %" : `${Math.round(100 * share)} %`;
}
