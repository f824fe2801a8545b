// The tools, as a group of radio buttons at the top.
import { el, icon } from "../page/dom";
import { ICONS, type IconName } from "../page/icons";
import type { Store } from "../page/store";
import type { ToolName } from "../tools/surface";

interface Listed {
  name: ToolName & IconName;
  label: string;
  key: string;
  asks: boolean;
}

const TOOLS: Listed[] = [
  { name: "pan", label: "Pan", key: "V", asks: false },
  { name: "point", label: "Point at objects", key: "P", asks: true },
  { name: "freehand", label: "Freehand", key: "F", asks: false },
  { name: "polygon", label: "Polygon", key: "G", asks: false },
  { name: "rectangle", label: "Rectangle", key: "R", asks: false },
];

export function toolBar(tool: Store<ToolName>, model: boolean): HTMLElement {
  const bar = el("div", { class: "tools", role: "radiogroup", "aria-label": "Tools" });
  const inputs = TOOLS.filter(({ asks }) => model || !asks).map(({ name, label, key }) => {
    const input = el("input", { type: "radio", name: "tool", value: name, "aria-label": label });
    input.addEventListener("change", () => {
      tool.value = name;
    });
    const title = `${label} (${key})`;
    bar.append(el("label", { title }, input, el("span", {}, icon(ICONS[name]))));
    return input;
  });
  tool.watch((chosen) => {
    for (const input of inputs) {
      input.checked = input.value === chosen;
    }
  });
  return bar;
}
