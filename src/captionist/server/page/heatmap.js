// Where the model looked for a word, as light on a darkened picture.

// The canvas is this many pixels wide and high, whatever the picture is, and CSS stretches it over the picture: what
// it holds is smooth, so the browser's own scaling does it no harm.
const SIZE = 96;
const MORPH = 180; // milliseconds

// From "no more than usual", dark, to "far more than usual", warm and clear: red, green, blue, opacity.
const RAMP = [
  [14, 12, 22, 0.7],
  [70, 28, 52, 0.48],
  [220, 100, 36, 0.26],
  [255, 160, 48, 0.24],
  [255, 206, 104, 0.26],
];

/** Where a heat map is hottest, in words: "the middle", "the top left". */
export function whereabouts(heat) {
  let best = { value: 0 };
  heat.forEach((row, y) => row.forEach((value, x) => value > best.value && (best = { value, x, y })));
  if (!best.value) return "no place more than for other words";
  const third = (place, count) => Math.floor((3 * (place + 0.5)) / count);
  const names = [
    ["top left", "top", "top right"],
    ["left side", "middle", "right side"],
    ["bottom left", "bottom", "bottom right"],
  ];
  return `the ${names[third(best.y, heat.length)][third(best.x, heat[0].length)]}`;
}

export class HeatMap {
  #canvas;
  #context;
  #shown = new Float32Array(SIZE * SIZE);
  #frame = 0;

  constructor(canvas) {
    canvas.width = canvas.height = SIZE;
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
  }

  /** Show a heat map, [rows][cols] from 0 to 1, or none (null). One glides into the next, where motion is welcome. */
  show(heat) {
    cancelAnimationFrame(this.#frame);
    const dark = getComputedStyle(this.#canvas).opacity === "0"; // CSS fades the canvas in and out
    this.#canvas.classList.toggle("lit", heat !== null);
    if (heat === null) return;
    const target = upscale(heat);
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (dark || calm) this.#draw(target);
    else this.#glide(this.#shown, target, performance.now());
  }

  #glide(from, to, start) {
    const step = () => {
      const share = Math.min(1, (performance.now() - start) / MORPH);
      this.#draw(from.map((value, place) => value + (to[place] - value) * share));
      if (share < 1) this.#frame = requestAnimationFrame(step);
    };
    step();
  }

  #draw(values) {
    this.#shown = values;
    const pixels = this.#context.createImageData(SIZE, SIZE);
    values.forEach((value, place) => pixels.data.set(colour(value), 4 * place));
    this.#context.putImageData(pixels, 0, 0);
  }
}

function colour(value) {
  const place = value * (RAMP.length - 1);
  const low = Math.min(Math.floor(place), RAMP.length - 2);
  const mix = (channel) => RAMP[low][channel] + (RAMP[low + 1][channel] - RAMP[low][channel]) * (place - low);
  return [mix(0), mix(1), mix(2), 255 * mix(3)];
}

/** A small grid drawn large with cubic interpolation, which shows no edges of cells: Float32Array [SIZE * SIZE]. */
function upscale(heat) {
  const across = heat.map((row) => stretch(row));
  const columns = Array.from({ length: SIZE }, (_, x) => stretch(across.map((row) => row[x])));
  return Float32Array.from({ length: SIZE * SIZE }, (_, place) => {
    const value = columns[place % SIZE][Math.floor(place / SIZE)];
    return Math.min(1, Math.max(0, value));
  });
}

/** SIZE samples of a Catmull-Rom curve through `points`, the first and last of which go on beyond the edge. */
function stretch(points) {
  const at = (place) => points[Math.min(points.length - 1, Math.max(0, place))];
  return Array.from({ length: SIZE }, (_, sample) => {
    const place = ((sample + 0.5) * points.length) / SIZE - 0.5;
    const left = Math.floor(place);
    const t = place - left;
    const [a, b, c, d] = [at(left - 1), at(left), at(left + 1), at(left + 2)];
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)));
  });
}
