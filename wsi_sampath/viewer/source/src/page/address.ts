// The view kept in the address, after the #; the token is taken out of it at once.

export interface View {
  slide: string | null;
  x: number | null;
  y: number | null;
  zoom: number | null;
  results: string[];
  /** How they are shown and compared; null as usual. */
  show: string | null;
  compare: string | null;
}

const read = () => new URLSearchParams(location.hash.slice(1));

function number(text: string | null): number | null {
  const value = text === null || text === "" ? NaN : Number(text);
  return Number.isFinite(value) ? value : null;
}

/** Take the token out of the address, so that it is in no bookmark and no history. */
export function takeToken(): string | null {
  const parts = read();
  const token = parts.get("token");
  if (token !== null) {
    parts.delete("token");
    replace(parts);
  }
  return token;
}

function replace(parts: URLSearchParams): void {
  const text = parts.toString().replaceAll("%2C", ",");
  history.replaceState(null, "", text ? `#${text}` : location.pathname);
}

export function readView(): View {
  const parts = read();
  const results = parts.get("results");
  return {
    slide: parts.get("slide"),
    x: number(parts.get("x")),
    y: number(parts.get("y")),
    zoom: number(parts.get("zoom")),
    results: results ? results.split(",").filter(Boolean) : [],
    show: parts.get("show"),
    compare: parts.get("compare"),
  };
}

/** Write the view into the address; it makes no entry in the history. */
export function writeView(view: View): void {
  const parts = new URLSearchParams();
  if (view.slide) {
    parts.set("slide", view.slide);
  }
  for (const name of ["x", "y", "zoom"] as const) {
    const value = view[name];
    if (value !== null) {
      parts.set(name, String(name === "zoom" ? Number(value.toPrecision(4)) : Math.round(value)));
    }
  }
  if (view.results.length) {
    parts.set("results", view.results.join(","));
  }
  for (const name of ["show", "compare"] as const) {
    const value = view[name];
    if (value !== null) {
      parts.set(name, value);
    }
  }
  replace(parts);
}

export function slideAddress(slide: string): string {
  return `#${new URLSearchParams({ slide })}`;
}

export const slidesAddress = () => "#slides";
