// All slides of a folder: pictures, areas, and what failed for which reason.
import { slideAddress } from "./address";
import { Select } from "./controls";
import { colorOf, el, swatch } from "./dom";
import { area, count, percent } from "./numbers";
import type { Entry, Shelf } from "../server/types";

type Status = Entry["status"];

const STATUS: Record<Status, string> = {
  done: "Done",
  failed: "Failed",
  waiting: "Waiting",
  slide: "Slide",
};

interface Wish {
  text: string;
  status: string;
  order: string;
}

export function galleryPage(root: HTMLElement, shelf: Shelf): () => void {
  const wish: Wish = { text: "", status: "", order: "name" };
  const list = el("ul", { class: "cards" });
  const shown = el("p", { class: "note", role: "status" });
  const show = () => {
    const entries = chosen(shelf.entries, wish);
    list.replaceChildren(...entries.map((entry) => card(entry, shelf)));
    shown.textContent = `${count(entries.length)} of ${count(shelf.entries.length)} slides`;
  };
  root.replaceChildren(
    el("header", { class: "top" }, el("h1", { text: shelf.title })),
    el("main", { class: "gallery" }, el("div", { class: "row filter" }, ...filters(shelf, wish, show), shown), list),
  );
  show();
  root.dataset["ready"] = "true";
  return () => delete root.dataset["ready"];
}

function filters(shelf: Shelf, wish: Wish, show: () => void): HTMLElement[] {
  const text = el("input", { type: "search", placeholder: "Filter by name", "aria-label": "Filter by name" });
  text.addEventListener("input", () => {
    wish.text = text.value;
    show();
  });
  const status = new Select("Status", (value) => {
    wish.status = value;
    show();
  });
  const there = Map.groupBy(shelf.entries, (entry) => entry.status);
  status.show(
    [
      { value: "", text: "Any status" },
      ...[...there].map(([value, { length }]) => ({ value, text: `${STATUS[value]} (${length})` })),
    ],
    "",
  );
  const order = new Select("Order", (value) => {
    wish.order = value;
    show();
  });
  const names = new Set(shelf.entries.flatMap((entry) => Object.keys(entry.areas_mm2 ?? {})));
  order.show(
    [
      { value: "name", text: "By name" },
      { value: "status", text: "Failures first" },
      { value: "analysed", text: "Largest analysed area first" },
      ...[...names].map((name) => ({ value: `class:${name}`, text: `Most ${name} first` })),
    ],
    wish.order,
  );
  return [text, status.element, order.element];
}

const URGENCY: Record<Status, number> = { failed: 0, waiting: 1, slide: 2, done: 3 };

/** The entries that are wished for, in the order wished. */
function chosen(entries: Entry[], { text, status, order }: Wish): Entry[] {
  const wanted = text.trim().toLowerCase();
  const found = entries.filter(
    (entry) => entry.name.toLowerCase().includes(wanted) && (!status || entry.status === status),
  );
  const rank = (entry: Entry): number => {
    if (order === "status") {
      return URGENCY[entry.status];
    }
    if (order === "analysed") {
      return -(entry.analysed_mm2 ?? 0);
    }
    return order.startsWith("class:") ? -share(entry, order.slice("class:".length)) : 0;
  };
  const byName = (a: Entry, b: Entry) => a.name.localeCompare(b.name, undefined, { numeric: true });
  return found.sort((a, b) => rank(a) - rank(b) || byName(a, b));
}

function share(entry: Entry, name: string): number {
  return entry.analysed_mm2 ? (entry.areas_mm2?.[name] ?? 0) / entry.analysed_mm2 : 0;
}

function card(entry: Entry, shelf: Shelf): HTMLElement {
  const picture = entry.thumbnail
    ? el("img", { src: entry.thumbnail, alt: "", loading: "lazy", decoding: "async" })
    : el("span", { class: "no-picture", text: "No picture" });
  const body = el(
    "div",
    { class: "card-body" },
    el("h2", { text: entry.name, title: entry.name }),
    el("span", { class: `badge ${entry.status}`, text: STATUS[entry.status] }),
    entry.status === "failed" ? el("p", { class: "reason", text: reasonOf(entry) }) : null,
    ...amounts(entry, shelf),
  );
  const inside = [el("div", { class: "picture" }, picture), body];
  // Whether a slide that failed can be opened all the same is the server's to say.
  return el("li", { class: "card" }, el("a", { href: slideAddress(entry.id) }, ...inside));
}

const reasonOf = ({ reason, message }: Entry) =>
  [reason, message].filter(Boolean).join(": ") || "No reason is recorded.";

/** A bar of the classes' shares, and the largest three in words. */
function amounts(entry: Entry, shelf: Shelf): HTMLElement[] {
  const whole = entry.analysed_mm2 ?? 0;
  const colors = new Map(shelf.classes.map(({ name, color }) => [name, color]));
  const shares = Object.keys(entry.areas_mm2 ?? {})
    .map((name) => ({ name, part: share(entry, name), color: colors.get(name) ?? "" }))
    .filter(({ part }) => part > 0)
    .sort((a, b) => b.part - a.part);
  if (!whole || shares.length === 0) {
    return [];
  }
  const bar = el("div", { class: "share-bar", "aria-hidden": "true" });
  for (const { part, color } of shares) {
    const piece = el("span", {});
    piece.style.width = `${100 * part}%`;
    piece.style.backgroundColor = colorOf(color);
    bar.append(piece);
  }
  const list = el("ul", { class: "shares" });
  for (const { name, part, color } of shares.slice(0, 3)) {
    list.append(el("li", {}, swatch(color), el("span", { text: name }), el("b", { text: percent(100 * part) })));
  }
  const nuclei = Object.values(entry.counts ?? {}).reduce((sum, n) => sum + n, 0);
  const note = [`${area(whole)} analysed`, nuclei ? `${count(nuclei)} nuclei` : ""];
  return [bar, list, el("p", { class: "note", text: note.filter(Boolean).join(" · ") })];
}
