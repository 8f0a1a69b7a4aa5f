// Opens the portal by the link's token. It is in the fragment of the address, which browsers do not send to servers.
"use strict";

const token = location.hash.slice(1);
const form = document.querySelector("form.open");
if (token && form) {
  history.replaceState(null, "", location.pathname);
  form.elements.link.value = token;
  form.requestSubmit();
}
