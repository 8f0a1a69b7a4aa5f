// What the console adds to its pages in a browser. Every page also works without it.
"use strict";

// A page that follows changes waits while somebody types: nothing may move under the cursor.
document.addEventListener("htmx:before:request", (event) => {
  const target = event.detail.ctx?.sourceElement;
  const focus = document.activeElement;
  if (target?.id === "main" && focus?.matches("#main input, #main textarea, #main select")) event.preventDefault();
});
