// Returns what is wrong with the layout of the page: words broken across lines, text that is cut off, text over text,
// fields that are hard to see, and the width of the page. Elements of the class `long`, such as a digest, may break anywhere.
() => {
  const seen = (element) => element.checkVisibility({ visibilityProperty: true }) && !element.closest(".skip");
  const broken = new Set(), clipped = new Set(), boxes = [];

  const cut = (box, element) => {
    // The part of a text's box that is to be seen; what a person can scroll to is not cut off. A clip path hides text
    // that is only read aloud.
    let { left, top, right, bottom } = box;
    for (let parent = element; parent && parent !== document.body; parent = parent.parentElement) {
      const style = getComputedStyle(parent);
      if (style.clipPath !== "none") return { left: 0, top: 0, right: 0, bottom: 0 };
      if (style.overflowX === "visible" || style.display === "inline" || style.display === "contents") continue;
      const hides = style.overflowX === "hidden" || style.overflowX === "clip";
      const window = parent.getBoundingClientRect();
      if (hides && (left < window.left - 2 || right > window.right + 2 || top < window.top - 3 || bottom > window.bottom + 3)) return null;
      [left, right] = [Math.max(left, window.left), Math.min(right, window.right)];
      [top, bottom] = [Math.max(top, window.top), Math.min(bottom, window.bottom)];
    }
    return { left, top, right, bottom };
  };

  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode()); ) {
    const element = node.parentElement;
    if (!node.data.trim() || element.closest("script, style, title, datalist, option, textarea") || !seen(element)) continue;
    const range = document.createRange();
    if (!element.closest(".long")) {
      for (const word of node.data.matchAll(/[\p{L}\p{N}_]+/gu)) {
        // A line of these scripts may end after any sign.
        if (/[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]/u.test(word[0])) continue;
        range.setStart(node, word.index);
        range.setEnd(node, word.index + word[0].length);
        const lines = new Set([...range.getClientRects()].filter((box) => box.width > 0).map((box) => Math.round(box.top)));
        if (lines.size > 1) broken.add(word[0]);
      }
    }
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) {
      if (box.width < 1) continue;
      const rest = cut(box, element);
      if (rest === null) clipped.add(node.data.trim().slice(0, 60));
      else if (rest.right - rest.left > 2 && rest.bottom - rest.top > 2) boxes.push({ ...rest, node, fixed: !!element.closest("dialog, .ruler, th") });
    }
  }

  // The names, values and hints in inputs.
  const pen = document.createElement("canvas").getContext("2d");
  for (const input of document.querySelectorAll("input, select")) {
    if (!seen(input) || ["hidden", "checkbox", "radio"].includes(input.type)) continue;
    const style = getComputedStyle(input);
    pen.font = `${style.fontStyle} ${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
    const text = input.tagName === "SELECT" ? input.selectedOptions[0]?.text ?? "" : input.placeholder;
    // The arrow of a selection and the cross of a search take about 20 pixels.
    const room = input.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight) - (["select-one", "search"].includes(input.type) ? 20 : 0);
    if (pen.measureText(text).width > room + 1) clipped.add(text);
  }

  // Fields whose border is too pale before what is behind them (WCAG 1.4.11 asks for a contrast of 3 to 1).
  const faint = [];
  const measure = (colour) => {
    const [red, green, blue] = colour.match(/[\d.]+/g).map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05;
  };
  for (const field of document.querySelectorAll("input, select, textarea")) {
    if (!seen(field) || ["hidden", "checkbox", "radio"].includes(field.type)) continue;
    let behind = field.parentElement;
    while (behind.parentElement && getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
    const found = getComputedStyle(behind).backgroundColor;
    const [less, more] = [found === "rgba(0, 0, 0, 0)" ? "rgb(255, 255, 255)" : found, getComputedStyle(field).borderTopColor].map(measure).sort((one, other) => one - other);
    if (more / less < 3) faint.push(field.name || field.id || field.type);
  }

  // Lines of text whose middles meet; a small part of a line may reach into the next one.
  const overlapped = [];
  const inner = boxes.filter((box) => !box.fixed).map((box) => ({ ...box, top: box.top + 0.3 * (box.bottom - box.top), bottom: box.bottom - 0.3 * (box.bottom - box.top) }));
  inner.sort((one, other) => one.top - other.top);
  for (let i = 0; i < inner.length && overlapped.length < 5; i++) {
    for (let j = i + 1; j < inner.length && inner[j].top < inner[i].bottom; j++) {
      const width = Math.min(inner[i].right, inner[j].right) - Math.max(inner[i].left, inner[j].left);
      if (width > 2 && inner[i].node !== inner[j].node) {
        overlapped.push([inner[i].node.data.trim().slice(0, 40), inner[j].node.data.trim().slice(0, 40)]);
        break;
      }
    }
  }
  // Cards whose content is wider than they are. What may be wide, such as a table of a file, scrolls in a part of its own.
  const wider = [...document.querySelectorAll(".card")]
    .filter((card) => seen(card) && card.scrollWidth > card.clientWidth + 1)
    .map((card) => card.innerText.trim().slice(0, 60));

  return {
    faint,
    wider,
    broken: [...broken],
    clipped: [...clipped],
    overlapped,
    wide: document.documentElement.scrollWidth,
    letters: document.body.innerText.length,
  };
}
