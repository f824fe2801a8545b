// The panel that names the keys.
import { iconButton } from "./controls";
import { el } from "./dom";
import type { Binding, Group } from "./keys";

type Row = [string, string];

const GROUPS: Group[] = ["Moving", "Tools", "Annotations", "Editing corners", "Results", "Page"];
const MOUSE: Row[] = [
  ["Drag, wheel", "pan and zoom; hold Space to pan with any tool"],
  ["Click", "point tool: this belongs to the object"],
  ["Shift-, Alt- or right click", "point tool: this does not"],
  ["Drag", "point tool: a box around the object"],
  ["Click on an annotation", "select it (while panning)"],
];

export function helpPanel(bindings: Binding[], version: string): HTMLDialogElement {
  const dialog = el("dialog", { class: "help", "aria-labelledby": "help-title" });
  const listed = bindings.filter(({ does }) => does);
  const groups = Map.groupBy(listed, ({ group }) => group);
  const rows = (group: Group) =>
    (groups.get(group) ?? []).map(({ shown, keys, does }): Row => [shown ?? keys.join(", "), does]);
  dialog.append(
    el(
      "header",
      {},
      el("h2", { id: "help-title", text: "Keys" }),
      iconButton("close", "Close", "Esc", () => dialog.close()),
    ),
    el(
      "div",
      { class: "help-groups" },
      listOf("Mouse", MOUSE),
      ...GROUPS.filter((group) => groups.has(group)).map((group) => listOf(group, rows(group))),
    ),
    el("footer", { text: `wsi-view ${version}` }),
  );
  return dialog;
}

function listOf(title: string, rows: Row[]): HTMLElement {
  const list = el("dl", {});
  for (const [keys, does] of rows) {
    list.append(el("dt", {}, el("kbd", { text: keys })), el("dd", { text: does }));
  }
  return el("section", {}, el("h3", { text: title }), list);
}
