// A dropped folder's worth of pictures must not become that many requests at once.

const AT_ONCE = 2; // one is being captioned while the next is on its way
const waiting = [];
let running = 0;

/** Run an async function when it is its turn; gives what it gives. */
export async function inTurn(action) {
  if (running >= AT_ONCE) await new Promise((resolve) => waiting.push(resolve));
  else running += 1;
  try {
    return await action();
  } finally {
    // The place is handed over directly, so that nobody can take it in between.
    if (waiting.length) waiting.shift()();
    else running -= 1;
  }
}
