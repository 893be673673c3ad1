// An exported page: the widget without Python.

import { RecordedModel } from "./recorded_model.js";
import { render } from "./widget.js";

/** Of several pages in one document, the second's names in the address begin with "2.". */
export function renderRecorded(el, recorded) {
  const pages = [...document.querySelectorAll(".mpnn-round")];
  const model = new RecordedModel(recorded, pages.length > 1 ? `${pages.indexOf(el) + 1}.` : "");
  model.recall();
  window.addEventListener("hashchange", () => model.recall());
  render({ model, el });
}
