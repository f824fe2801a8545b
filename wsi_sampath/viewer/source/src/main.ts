// The page starts here: sign in, then the gallery or a slide, as the address says.
import { readView, slidesAddress, takeToken, type View } from "./page/address";
import { el } from "./page/dom";
import { galleryPage } from "./page/gallery";
import { ApiError, get, post, sentence } from "./server/api";
import type { Shelf, Slide } from "./server/types";
import { slidePage } from "./slide/page";

const root = document.getElementById("page") as HTMLElement;
let leave: () => void = () => undefined;
// Whichever page was asked for last is the one that may appear.
let turn = 0;

function message(title: string, text: string, ...more: Node[]): void {
  leave();
  leave = () => undefined;
  root.className = "message-page";
  root.replaceChildren(
    el("main", { class: "message", role: "alert" }, el("h1", { text: title }), el("p", { text }), ...more),
  );
}

function explain(error: unknown): void {
  if (error instanceof ApiError && error.status === 401) {
    message("Not signed in", "Open the link that wsi-view printed in its terminal.");
  } else {
    const back = el("a", { class: "button", href: slidesAddress(), text: "All slides" });
    message("This cannot be shown", sentence(error), ...(readView().slide ? [back] : []));
  }
}

async function signIn(): Promise<void> {
  const token = takeToken();
  if (token !== null) {
    await post("/api/login", { token });
  }
}

/** The only slide needs no gallery. */
function slideOf(view: View, shelf: Shelf): string | null {
  const [only] = shelf.entries;
  return view.slide ?? (shelf.entries.length === 1 && only ? only.id : null);
}

async function show(): Promise<void> {
  const mine = ++turn;
  try {
    await signIn();
    const shelf = await get<Shelf>("/api/shelf");
    const view = readView();
    const id = slideOf(view, shelf);
    const slide = id ? await get<Slide>(`/api/slides/${encodeURIComponent(id)}`) : null;
    if (mine !== turn) {
      return;
    }
    leave();
    root.className = slide ? "slide-page" : "gallery-page";
    document.title = `${slide?.name ?? shelf.title} · wsi-view`;
    leave = slide ? slidePage(root, shelf, slide, view) : galleryPage(root, shelf);
  } catch (error) {
    if (mine === turn) {
      explain(error);
    }
  }
}

window.addEventListener("hashchange", () => void show());
void show();
