// What the keys do on a slide.
import type { Blinker } from "../overlay/compare";
import type { Display } from "../overlay/display";
import { arrows, type Binding, type Group } from "../page/keys";
import type { Store } from "../page/store";
import { boxOf } from "../objects/geometry";
import type { ToolName } from "../tools/surface";
import type { Annotating } from "./annotating";
import type { Hover } from "./hover";
import type { Scene } from "./scene";

export interface Parts {
  scene: Scene;
  tool: Store<ToolName>;
  display: Store<Display>;
  blinker: Blinker;
  annotating: Annotating;
  hover: Hover;
  share: () => void;
  help: () => void;
  sidePanel: () => void;
}

export function bindings(parts: Parts): Binding[] {
  return [
    ...editing(parts),
    ...moving(parts),
    ...tools(parts),
    ...annotations(parts),
    ...results(parts),
    { group: "Page", keys: ["l"], shown: "L", does: "copy a link to this view", action: parts.share },
    { group: "Page", keys: ["\\"], does: "side panel", action: parts.sidePanel },
    { group: "Page", keys: ["?"], does: "these keys", action: parts.help },
  ];
}

/** Keys that mean something else while corners are edited; they stand first. */
function editing({ tool, annotating: { vertices } }: Parts): Binding[] {
  const group: Group = "Editing corners";
  const when = () => tool.value === "edit";
  const nudge = (x: number, y: number) => vertices.nudge(x, y);
  return [
    { group, keys: ["Tab"], does: "next corner (Shift: the one before)", when, action: () => vertices.step(1) },
    { group, keys: ["Shift+Tab"], does: "", when, action: () => vertices.step(-1) },
    ...arrows(group, "move the corner (Shift: farther)", 10, nudge, when),
    { group, keys: ["Insert", "a"], shown: "A", does: "add a corner after it", when, action: () => vertices.split() },
    { group, keys: ["Delete", "Backspace"], shown: "Delete", does: "take it away", when, action: () => vertices.remove() },
  ];
}

function moving({ scene, hover }: Parts): Binding[] {
  const group: Group = "Moving";
  return [
    ...arrows(group, "pan (Shift: farther)", 4, (x, y) => scene.panBy(x, y)),
    { group, keys: ["+", "="], shown: "+", does: "zoom in", action: () => scene.zoomBy(1) },
    { group, keys: ["-"], does: "zoom out", action: () => scene.zoomBy(-1) },
    { group, keys: ["0", "Home"], shown: "0", does: "whole slide", action: () => scene.home() },
    { group, keys: ["i"], shown: "I", does: "what is in the middle of the view", action: () => hover.overCentre() },
  ];
}

function tools({ tool, annotating }: Parts): Binding[] {
  const group: Group = "Tools";
  const choose = (name: ToolName) => () => {
    tool.value = name;
  };
  const asked = annotating.model !== null;
  const drawing = () => tool.value !== "pan" && tool.value !== "edit";
  const press = (negative: boolean) => () => annotating.surface.pressCentre(negative);
  return [
    { group, keys: ["v"], shown: "V", does: "pan", action: choose("pan") },
    ...(asked
      ? [
          { group, keys: ["p"], shown: "P", does: "point at objects", action: choose("point") },
          { group, keys: ["t"], shown: "T", does: "flip what a plain click says", action: () => annotating.points.flip() },
        ]
      : []),
    { group, keys: ["f"], shown: "F", does: asked ? "freehand, refined by the model" : "freehand", action: choose("freehand") },
    { group, keys: ["g"], shown: "G", does: "polygon", action: choose("polygon") },
    { group, keys: ["r"], shown: "R", does: "rectangle", action: choose("rectangle") },
    { group, keys: ["x"], shown: "X", does: "click in the middle of the view (Shift: not this)", when: drawing, action: press(false) },
    { group, keys: ["Shift+x"], does: "", when: drawing, action: press(true) },
  ];
}

function annotations({ scene, annotating, tool }: Parts): Binding[] {
  const group: Group = "Annotations";
  const { desk, shapes } = annotating;
  const several = () => (desk.state.value.answer?.candidates.length ?? 0) > 1;
  const goTo = (by: number) => {
    const shape = shapes.step(by);
    if (shape) {
      scene.show(boxOf(shape.geometry));
    }
  };
  const undoKeys = ["Ctrl+z"];
  const redoKeys = ["Ctrl+Shift+z", "Ctrl+y"];
  return [
    { group, keys: ["Enter"], does: "accept, or close the polygon", action: () => annotating.confirm() },
    { group, keys: ["Escape"], shown: "Esc", does: "cancel; then back to panning", action: () => annotating.cancel() },
    { group, keys: ["Tab"], does: "next candidate (Shift: the one before)", when: several, action: () => desk.next(1) },
    { group, keys: ["Shift+Tab"], does: "", when: several, action: () => desk.next(-1) },
    { group, keys: ["Backspace", "Delete"], shown: "Backspace", does: "take the last point back, or delete what is selected", action: () => annotating.back() },
    { group, keys: undoKeys, shown: "Ctrl+Z", does: "undo", action: () => annotating.undo() },
    { group, keys: redoKeys, shown: "Ctrl+Shift+Z", does: "redo", action: () => annotating.redo() },
    { group, keys: ["n"], shown: "N", does: "next annotation (Shift: the one before)", action: () => goTo(1) },
    { group, keys: ["Shift+n"], does: "", action: () => goTo(-1) },
    { group, keys: ["e"], shown: "E", does: "edit the corners of what is selected", when: () => tool.value !== "edit", action: () => annotating.edit() },
    { group, keys: ["h"], shown: "H", does: "hide and show annotations", action: () => shapes.toggle() },
    { group, keys: [..."123456789"], shown: "1 – 9", does: "class", action: (event) => annotating.classKey(Number(event.key)) },
  ];
}

function results({ scene, display, blinker }: Parts): Binding[] {
  if (scene.slide.results.length === 0) {
    return [];
  }
  const group: Group = "Results";
  const flip = (mode: Display["mode"]) => () =>
    display.change({ mode: display.value.mode === mode ? "fill" : mode });
  const curtain = () =>
    display.change({ compare: display.value.compare === "curtain" ? "none" : "curtain" });
  const opacity = (by: number) => () =>
    display.change({ opacity: Math.min(1, Math.max(0, display.value.opacity + by)) });
  return [
    { group, keys: ["o"], shown: "O", does: "overlay on and off", action: flip("off") },
    { group, keys: ["k"], shown: "K", does: "contours only", action: flip("contours") },
    { group, keys: ["["], does: "more transparent", action: opacity(-0.1) },
    { group, keys: ["]"], does: "less transparent", action: opacity(0.1) },
    { group, keys: ["b"], shown: "B", does: "two results in turn", action: () => blinker.press() },
    { group, keys: ["c"], shown: "C", does: "two results beside an edge", action: curtain },
  ];
}
