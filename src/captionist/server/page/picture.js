// A file becomes a picture: shown in the browser, and scaled down where the server would refuse it as it is.

import { Problem } from "./api.js";

// The types that the server reads; others that this browser can show are sent as JPEG.
const READ = new Set(
  ["jpeg", "png", "webp", "gif", "bmp", "tiff", "heic", "heif", "avif", "jp2"].map((name) => `image/${name}`),
);
const SIDES = [3000, 2000, 1200]; // pixels: far more than the model looks at; a canvas of 3000 x 3000 works on phones
const QUALITY = 0.9;

/**
 * Show a file in an <img> and make ready what is to be sent: { blob, name, ratio, note }. ratio is width / height, null
 * where this browser cannot show the file. note says, where it is not empty, what was done to the picture.
 * limits: those of /v1/models, or null. Throws a Problem where there is nothing to send.
 */
export async function openPicture(file, image, limits) {
  await probe(file);
  if (!image.src) image.src = URL.createObjectURL(file);
  const visible = await image.decode().then(
    () => true,
    () => false,
  );
  const ratio = visible ? image.naturalWidth / image.naturalHeight : null;
  const heavy = limits !== null && file.size > limits.max_picture_bytes;
  const vast = limits !== null && image.naturalWidth * image.naturalHeight > limits.max_picture_pixels;
  const foreign = file.type.startsWith("image/") && !READ.has(file.type);
  if (visible && (heavy || vast || foreign)) {
    const { blob, width, height } = await shrink(image, limits?.max_picture_bytes ?? Infinity);
    return { blob, name: file.name, ratio, note: `Sent as a JPEG of ${width} × ${height} pixels.` };
  }
  if (heavy) {
    throw new Problem({
      type: "too-large",
      title: "This file is too large",
      detail:
        `This server takes pictures of up to ${megabytes(limits.max_picture_bytes)}, ` +
        "and this browser cannot make this one smaller.",
    });
  }
  return { blob: file, name: file.name, ratio, note: "" };
}

/** A folder, and a file that went away since it was chosen, would look like a lost connection once they are sent. */
async function probe(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    throw new Problem({
      type: "unreadable",
      title: "This cannot be read",
      detail: "It is a folder, or a file that has changed since you chose it. Please choose the picture again.",
      status: -1,
    });
  }
}

async function shrink(image, mostBytes) {
  const longer = Math.max(image.naturalWidth, image.naturalHeight);
  let result;
  for (const side of SIDES) {
    const scale = Math.min(1, side / longer);
    const width = Math.max(1, Math.round(image.naturalWidth * scale));
    const height = Math.max(1, Math.round(image.naturalHeight * scale));
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = canvas.getContext("2d");
    context.fillStyle = "white"; // what the server puts behind transparent pictures too
    context.fillRect(0, 0, width, height);
    context.imageSmoothingQuality = "high";
    context.drawImage(image, 0, 0, width, height);
    result = { blob: await jpeg(canvas), width, height };
    if (result.blob.size <= mostBytes) break;
  }
  return result;
}

function jpeg(canvas) {
  return new Promise((resolve, reject) => {
    const done = (blob) =>
      blob
        ? resolve(blob)
        : reject(
            new Problem({
              title: "This picture is too large for this browser",
              detail: "Please make it smaller with another program first.",
              status: -1,
            }),
          );
    canvas.toBlob(done, "image/jpeg", QUALITY);
  });
}

function megabytes(bytes) {
  return bytes < 1_000_000 ? `${Math.floor(bytes / 1000)} KB` : `${Math.floor(bytes / 1_000_000)} MB`;
}
