// Elements from code. What the server says becomes text nodes and nothing else.

type Child = Node | string | null | false;
type Listener = (event: never) => void;

export interface Attributes {
  class?: string;
  text?: string;
  on?: Record<string, Listener>;
  [attribute: string]: string | number | boolean | undefined | Record<string, Listener>;
}

function apply(element: Element, attributes: Attributes, children: Child[]): void {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value as Record<string, Listener>)) {
        element.addEventListener(event, listener as EventListener);
      }
    } else if (name === "text") {
      element.textContent = String(value);
    } else if (value === true) {
      element.setAttribute(name, "");
    } else if (value !== undefined && value !== false) {
      element.setAttribute(name, String(value));
    }
  }
  for (const child of children) {
    if (child !== null && child !== false) {
      element.append(child);
    }
  }
}

/** Make an element: attributes, `text`, listeners under `on`, children. */
export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  apply(element, attributes, children);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** An icon of 20 x 20 from path data, drawn by lines. */
export function icon(path: string): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  apply(svg, { viewBox: "0 0 20 20", class: "icon", "aria-hidden": "true", focusable: "false" }, []);
  const line = document.createElementNS(SVG, "path");
  apply(line, { d: path }, []);
  svg.append(line);
  return svg;
}

const COLOR = /^#[0-9a-f]{6}$/i;
export const UNKNOWN_COLOR = "#9aa0a6";

/** A colour that is one; the server's word is not trusted here either. */
export function colorOf(text: string | null | undefined): string {
  return text && COLOR.test(text) ? text : UNKNOWN_COLOR;
}

/** A small square of a colour. */
export function swatch(color: string): HTMLSpanElement {
  const square = el("span", { class: "swatch", "aria-hidden": "true" });
  square.style.backgroundColor = colorOf(color);
  return square;
}

/** Whether keys belong to what is being typed in. */
export function isTyping(target: EventTarget | null): boolean {
  if (target instanceof HTMLInputElement) {
    return !["checkbox", "radio", "range", "button", "color"].includes(target.type);
  }
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement;
}

export const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
