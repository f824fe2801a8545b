// The keys: one table that the page obeys and the help panel prints.
import { isTyping } from "./dom";

export type Group = "Moving" | "Tools" | "Annotations" | "Editing corners" | "Results" | "Page";

export interface Binding {
  /** As `KeyboardEvent.key`, with Ctrl+ and Shift+ before it; Cmd counts as Ctrl. */
  keys: string[];
  /** How the help panel writes them; the keys themselves where left out. */
  shown?: string;
  /** For the help panel; keys that say nothing go with the ones before them. */
  does: string;
  group: Group;
  action: (event: KeyboardEvent) => void;
  /** Whether the key means this at the moment. */
  when?: () => boolean;
}

type Move = (x: number, y: number) => void;

/** The four arrows, and with Shift the same `far` times as far. */
export function arrows(
  group: Group,
  does: string,
  far: number,
  move: Move,
  when: () => boolean = () => true,
): Binding[] {
  const ways: [string, number, number][] = [
    ["ArrowLeft", -1, 0],
    ["ArrowRight", 1, 0],
    ["ArrowUp", 0, -1],
    ["ArrowDown", 0, 1],
  ];
  const all = ways.flatMap(([key, x, y]): Binding[] => [
    { group, keys: [key], does: "", when, action: () => move(x, y) },
    { group, keys: [`Shift+${key}`], does: "", when, action: () => move(far * x, far * y) },
  ]);
  return all.map((binding, at) => (at === 0 ? { ...binding, shown: "Arrows", does } : binding));
}

function nameOf(event: KeyboardEvent): string {
  const letter = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const shift = event.shiftKey && (event.ctrlKey || event.metaKey || /^[a-z]$|^Tab$|^Arrow/.test(letter));
  return `${event.ctrlKey || event.metaKey ? "Ctrl+" : ""}${shift ? "Shift+" : ""}${letter}`;
}

/** Whether a focused control uses this key itself. */
function belongsToControl(event: KeyboardEvent): boolean {
  const { target, key } = event;
  if (isTyping(target) || document.querySelector("dialog[open]")) {
    return true;
  }
  if (!(target instanceof HTMLElement)) {
    return false;
  }
  const moves = key.startsWith("Arrow");
  if (target instanceof HTMLInputElement) {
    return moves || key === " " || (key === "Enter" && target.type === "color");
  }
  if (target.matches("button, a, summary")) {
    return key === " " || key === "Enter";
  }
  return target.getAttribute("role") === "slider" && moves;
}

/** Obey the bindings until the returned function is called. */
export function obey(bindings: Binding[]): () => void {
  const pressed = (event: KeyboardEvent) => {
    if (event.altKey || belongsToControl(event)) {
      return;
    }
    const name = nameOf(event);
    const binding = bindings.find(({ keys, when }) => keys.includes(name) && (when?.() ?? true));
    if (binding) {
      event.preventDefault();
      binding.action(event);
    }
  };
  document.addEventListener("keydown", pressed);
  return () => document.removeEventListener("keydown", pressed);
}
