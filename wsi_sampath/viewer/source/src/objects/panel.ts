// The side panel's part about annotations: classes, the list, and what is selected.
import { iconButton, Select, section, textButton } from "../page/controls";
import { el, swatch } from "../page/dom";
import { area, count } from "../page/numbers";
import type { Notices } from "../page/notice";
import { sentence } from "../server/api";
import type { Shape } from "../server/types";
import type { Scene } from "../slide/scene";
import { type ActiveClass, classChips } from "./classes";
import { areaOf, boxOf, isAreal } from "./geometry";
import type { SessionDesk } from "./session";
import type { Shapes } from "./shapes";

const MOST_ROWS = 300;

export interface ObjectActions {
  edit: () => void;
  remove: () => void;
}

export function titleOf(shape: Shape): string {
  return shape.properties.name || shape.properties.class || "Unclassified";
}

/** An object's size: µm² where the slide knows its scale. */
export function sizeOf(shape: Shape, mpp: [number, number] | null): string {
  const px = areaOf(shape.geometry);
  return mpp ? area((px * mpp[0] * mpp[1]) / 1e6) : `${count(Math.round(px))} px²`;
}

export function objectPanel(
  scene: Scene,
  session: SessionDesk,
  shapes: Shapes,
  active: ActiveClass,
  notices: Notices,
  actions: ObjectActions,
): HTMLElement {
  return section(
    "Annotations",
    true,
    classChips(session, active),
    toolbar(session, notices),
    inspector(session, shapes, actions),
    objectList(scene, session, shapes),
  );
}

function toolbar(session: SessionDesk, notices: Notices): HTMLElement {
  const undo = iconButton("undo", "Undo", "Ctrl+Z", () => void session.send({ type: "undo" }));
  const redo = iconButton("redo", "Redo", "Ctrl+Shift+Z", () => void session.send({ type: "redo" }));
  const file = el("input", { type: "file", accept: ".geojson,.json", hidden: true });
  file.addEventListener("change", async () => {
    const [chosen] = file.files ?? [];
    file.value = "";
    if (chosen) {
      try {
        const { imported, notes } = await session.import(chosen);
        const done = `${count(imported)} annotations imported from ${chosen.name}.`;
        notices.say([done, ...notes].join(" "));
      } catch (error) {
        notices.say(sentence(error), "error");
      }
    }
  });
  const load = textButton("Import", () => file.click());
  load.title = "Read annotations from QuPath's GeoJSON";
  const save = el("a", { class: "button", href: session.exportUrl, download: true, text: "Export" });
  save.title = "Save the annotations as GeoJSON for QuPath";
  session.state.watch(({ can_undo, can_redo }) => {
    undo.disabled = !can_undo;
    redo.disabled = !can_redo;
  });
  return el("div", { class: "row" }, undo, redo, el("span", { class: "gap" }), load, save, file);
}

/** Name and class of the selected object, and what can be done with it. */
function inspector(session: SessionDesk, shapes: Shapes, actions: ObjectActions): HTMLElement {
  const name = el("input", {
    type: "text",
    placeholder: "Name",
    "aria-label": "Name of the annotation",
    maxlength: 200,
  });
  name.addEventListener("change", () => {
    const id = shapes.selected.value;
    if (id) {
      void session.send({ type: "change", id, name: name.value.trim() || null });
    }
  });
  const ofClass = new Select("Class of the annotation", (value) => {
    const id = shapes.selected.value;
    if (id) {
      void session.send({ type: "change", id, class: value || null });
    }
  });
  const edit = textButton("Edit corners", actions.edit);
  edit.title = "Edit corners (E)";
  const box = el(
    "div",
    { class: "inspector" },
    name,
    ofClass.element,
    el("div", { class: "row" }, edit, el("span", { class: "gap" }), removeButton(actions)),
  );
  const show = () => {
    const shape = shapes.chosen;
    box.hidden = shape === null;
    if (shape) {
      name.value = shape.properties.name ?? "";
      const names = session.state.value.classes.map((item) => item.name);
      const own = shape.properties.class;
      const all = own && !names.includes(own) ? [...names, own] : names;
      ofClass.show(
        [{ value: "", text: "Unclassified" }, ...all.map((text) => ({ value: text, text }))],
        own ?? "",
      );
      edit.hidden = !isAreal(shape.geometry);
    }
  };
  session.state.watch(show);
  shapes.selected.watch(show);
  return box;
}

const removeButton = (actions: ObjectActions) =>
  iconButton("trash", "Delete the annotation", "Delete", actions.remove);

function objectList(scene: Scene, session: SessionDesk, shapes: Shapes): HTMLElement {
  const list = el("ul", { class: "objects", "aria-label": "Annotations" });
  const more = el("p", { class: "note" });
  const show = () => {
    const { objects } = session.state.value;
    const rows = objects.slice(-MOST_ROWS).reverse();
    const focused = list.contains(document.activeElement);
    list.replaceChildren(...rows.map((shape) => listRow(scene, shapes, shape)));
    if (focused) {
      list.querySelector<HTMLElement>("[aria-current]")?.focus();
    }
    const left = objects.length - rows.length;
    more.textContent =
      objects.length === 0
        ? "None yet; the tools at the top draw them."
        : left > 0
          ? `and ${count(left)} earlier ones, shown on the slide only`
          : "";
  };
  session.state.watch(show);
  shapes.selected.listen(show);
  return el("div", {}, list, more);
}

function listRow(scene: Scene, shapes: Shapes, shape: Shape): HTMLElement {
  const { quality, color } = shape.properties;
  const button = el(
    "button",
    { type: "button", "aria-current": shape.id === shapes.selected.value && "true" },
    swatch(color ?? ""),
    el("span", { class: "object-name", text: titleOf(shape) }),
    el("span", { class: "object-size", text: sizeOf(shape, scene.slide.mpp) }),
    quality !== null && quality !== undefined
      ? el("span", { class: "object-iou", title: "Predicted IoU", text: quality.toFixed(2) })
      : null,
  );
  button.addEventListener("click", () => {
    shapes.selected.value = shape.id;
    scene.show(boxOf(shape.geometry));
  });
  return el("li", {}, button);
}
