// The Tab key reaches what is larger than its place, to be scrolled by the arrow keys; and captions
// that the theme calls headings say of which level.
function reach() {
  for (const box of document.querySelectorAll("pre, .table-wrapper, .math-wrapper")) {
    if (box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
  for (const caption of document.querySelectorAll('[role="heading"]:not([aria-level])')) caption.ariaLevel = "2";
}
addEventListener("load", reach);
addEventListener("resize", reach);
