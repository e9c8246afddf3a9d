// The API key, where the operator asks for one. It lives in this tab only, and whoever met a 401 waits for it here.

const NAME = "captionist-api-key";
const form = document.getElementById("key");
const field = document.getElementById("key-field");
const note = document.getElementById("key-note");

let key = remembered();
let asking = null;

export function storedKey() {
  return key;
}

/**
 * Ask for a key, the one given (or none) having been refused. Resolves to whether there is another one to try.
 * Requests that fail together share one question.
 */
export async function askForKey(refused) {
  if (key !== refused) return true;
  asking ??= ask(refused).finally(() => (asking = null));
  return asking;
}

function ask(refused) {
  note.textContent = refused
    ? "The server did not accept that key. Please check it."
    : "It is kept in this tab only, and forgotten when you close it.";
  const before = document.activeElement;
  form.hidden = false;
  field.value = "";
  field.focus();
  return new Promise((resolve) => {
    const close = (answer) => {
      form.hidden = true;
      form.onsubmit = document.getElementById("key-later").onclick = null;
      if (before?.isConnected) before.focus({ preventScroll: true });
      resolve(answer);
    };
    form.onsubmit = (event) => {
      event.preventDefault();
      key = field.value;
      remember(key);
      close(true);
    };
    document.getElementById("key-later").onclick = () => close(false);
  });
}

// A browser may forbid storage altogether; then the key lasts until the page is left.
function remembered() {
  try {
    return sessionStorage.getItem(NAME) ?? "";
  } catch {
    return "";
  }
}

function remember(value) {
  try {
    sessionStorage.setItem(NAME, value);
  } catch {
    // See above.
  }
}
