"use strict";
// On a phone a page's filters are in a drawer: a dialog behind one button, which says how many of them are active.
// The form itself moves, so a page's script finds it wherever it is. On a desk it stays where the page has it.

const harnessDrawer = (form) => {
  const narrow = matchMedia("(max-width: 40rem)");
  const make = (tag, attributes, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const open = make("button", { type: "button", class: "drawer-open", "aria-haspopup": "dialog" }, "Filters");
  const close = make("button", { type: "button" }, "Close");
  const heading = make("h2", { id: `${form.id}-drawer` }, "Filters");
  const dialog = make("dialog", { class: "drawer", "aria-labelledby": heading.id }, make("div", { class: "drawer-head" }, heading, close));
  const place = document.createComment("filters");
  form.before(place, open, dialog);

  const settle = () => {
    if (dialog.open) dialog.close();
    open.hidden = !narrow.matches;
    if (narrow.matches) dialog.append(form);
    else dialog.after(form);
  };
  open.addEventListener("click", () => dialog.showModal()); // the button gets the focus back when it closes
  dialog.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault(); // otherwise a search field is emptied as well
    dialog.close();
  });
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); }); // beside the drawer
  narrow.addEventListener("change", settle);
  settle();

  return (active) => { open.textContent = active ? `Filters: ${active} active` : "Filters"; };
};
