// The HTTP service, as the page uses it. Whatever goes wrong comes out as a Problem, in words that can be shown.

import { askForKey, storedKey } from "./key.js";

const TIMEOUT = 120_000; // milliseconds: far beyond the server's own deadline, so that only a lost connection meets it
const PASSING = new Set([0, 401, 408, 425, 429, 500, 502, 503, 504]);

/** A problem document (RFC 9457), or its like where none came. */
export class Problem extends Error {
  constructor({ type = "", title, status = 0, detail = "", instance = "" }, wait = null) {
    super(title);
    this.type = type.replace("urn:captionist:problem:", "");
    this.title = title;
    this.status = status;
    this.detail = detail;
    this.reference = instance;
    this.wait = wait; // seconds that the server asks to be left alone for
  }

  /** Whether the same request may well succeed later. */
  get passes() {
    return PASSING.has(this.status);
  }
}

/** The captions of one picture, best first, each with the attention of its words. */
export async function caption(blob, name, signal) {
  const body = new FormData();
  body.append("picture", blob, name);
  body.append("num_captions", "3");
  body.append("explain", "true");
  const answer = await request("v1/captions", { method: "POST", body, signal });
  const [picture] = answer.pictures;
  if (picture.problem) throw new Problem(picture.problem);
  return picture;
}

/** Send what a person thinks of a picture's captions; with `picture`, a Blob, they agree to its being kept. */
export async function sendFeedback({ captionId, rating, correction, picture, name }, idempotencyKey) {
  const fields = { caption_id: captionId, rating, ...(correction && { correction }) };
  const headers = { "Idempotency-Key": idempotencyKey };
  let body = JSON.stringify(fields);
  if (picture) {
    body = new FormData();
    for (const [field, value] of Object.entries(fields)) body.append(field, value);
    body.append("consent", "true");
    body.append("picture", picture, name);
  } else {
    headers["Content-Type"] = "application/json";
  }
  return request("v1/feedback", { method: "POST", headers, body });
}

export async function deleteFeedback(id) {
  try {
    await request(`v1/feedback/${encodeURIComponent(id)}`, { method: "DELETE" });
  } catch (problem) {
    if (problem.status !== 404) throw problem; // gone is gone, whoever did it
  }
}

let known = null;

/** What this server runs and allows; asked for once, and again only after a failure. */
export function models() {
  known ??= request("v1/models").catch((problem) => {
    known = null;
    throw problem;
  });
  return known;
}

async function request(path, { method = "GET", headers = {}, body, signal } = {}) {
  for (;;) {
    const key = storedKey();
    const authorization = key && { Authorization: `Bearer ${key}` };
    const response = await send(path, { method, body, headers: { ...headers, ...authorization } }, signal);
    if (response.ok) return response.status === 204 ? null : await read(response);
    const problem = await problemOf(response);
    if (problem.status !== 401 || !(await askForKey(key))) throw problem;
  }
}

async function send(path, options, signal) {
  const late = AbortSignal.timeout(TIMEOUT);
  const signals = AbortSignal.any(signal ? [late, signal] : [late]);
  try {
    return await fetch(path, { ...options, signal: signals, credentials: "omit", cache: "no-store" });
  } catch (error) {
    if (signal?.aborted) throw error; // the person took the picture away: nothing to report
    throw late.aborted
      ? new Problem({ type: "timeout", title: "The server did not answer", detail: "It may be very busy." })
      : unreachable();
  }
}

async function read(response) {
  try {
    return await response.json();
  } catch {
    throw unreachable(); // the connection broke in the middle, or something else answers in the server's place
  }
}

async function problemOf(response) {
  const wait = Number.parseInt(response.headers.get("Retry-After")) || null; // the service gives seconds, not a date
  const type = response.headers.get("Content-Type") ?? "";
  if (type.startsWith("application/problem+json")) {
    try {
      return new Problem({ ...(await response.json()), status: response.status }, wait);
    } catch {
      // An answer cut short: its status still says something.
    }
  }
  const title = response.status === 413 ? "The picture is too large for this server" : "The server could not do this";
  return new Problem({ title, status: response.status, detail: `It answered with status ${response.status}.` }, wait);
}

function unreachable() {
  return new Problem({
    type: "unreachable",
    title: "The server cannot be reached",
    detail: "Is it running, and are you connected to it?",
  });
}
