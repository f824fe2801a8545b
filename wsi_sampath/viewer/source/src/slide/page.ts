// One slide: everything put together.
import { slidesAddress, type View, writeView } from "../page/address";
import { iconButton, iconLink } from "../page/controls";
import { el } from "../page/dom";
import { helpPanel } from "../page/help";
import { obey } from "../page/keys";
import { Notices } from "../page/notice";
import { Store } from "../page/store";
import { debounced } from "../page/timing";
import { ClassPanel } from "../overlay/classes";
import { Blinker, curtainEdge } from "../overlay/compare";
import { type Display, displayOf, resultAt, shownIds } from "../overlay/display";
import { Painter } from "../overlay/painter";
import { resultPanel } from "../overlay/panel";
import { addRing } from "../objects/geometry";
import { sentence } from "../server/api";
import type { Shelf, Slide } from "../server/types";
import { Board } from "../tools/board";
import type { ToolName } from "../tools/surface";
import { Annotating } from "./annotating";
import { bindings } from "./bindings";
import { slideDetails } from "./details";
import { Hover } from "./hover";
import { holdSpace, watchHover, watchSelection } from "./pointer";
import { scaleBar } from "./scalebar";
import { Scene } from "./scene";
import { toolBar } from "./toolbar";

const LIT = "#fff04d";
const ADDRESS_MS = 200;

/** Show a slide; the returned function takes it away again. */
export function slidePage(root: HTMLElement, shelf: Shelf, slide: Slide, view: View): () => void {
  const notices = new Notices();
  const over = el("div", { class: "over" });
  const main = el("main", { class: "view" }, over);
  const minimap = el("div", { class: "minimap", "aria-label": "Overview of the slide" });
  const side = el("aside", { class: "side", "aria-label": "Results and annotations" });
  const top = el("header", { class: "top" });
  // In place before the slide opens, which fits itself into the room there is.
  root.replaceChildren(top, main, side);
  over.append(minimap);

  const tool = new Store<ToolName>("pan");
  const display = displayOf(slide, view.results);
  const scene = new Scene(slide, main, minimap);
  const painter = new Painter(scene, display, over);
  const board = new Board(scene, over);
  const hover = new Hover(scene, (across) => resultAt(display.value, across), board.redraw);
  const annotating = new Annotating(scene, board, tool, shelf.model, notices);
  const classes = new ClassPanel(scene, display);
  const blinker = new Blinker(slide, display);
  lightUp(board, hover);

  const share = () => void copyLink(notices);
  const help = () => panel.showModal();
  const sidePanel = () => void root.classList.toggle("wide");
  const parts = { scene, tool, display, blinker, annotating, hover, share, help, sidePanel };
  const keys = bindings(parts);
  const panel = helpPanel(keys, shelf.version);
  const stops = [obey(keys), holdSpace((held) => (annotating.surface.panning = held))];
  watchHover(scene, hover, tool);
  watchSelection(scene, annotating);
  keepAddress(scene, display, view, root);

  over.append(
    annotating.surface.element,
    curtainEdge(slide, display, over),
    blinker.label,
    hover.element,
    scaleBar(scene),
    notices.element,
    ...(annotating.bar ? [annotating.bar] : []),
    minimap,
  );
  const results = slide.results.length ? [resultPanel(slide, display), classes.element] : [];
  side.append(...results, annotating.panel, slideDetails(slide));
  top.append(...topBar(shelf, scene, tool, { share, help, sidePanel }));
  root.append(panel);
  annotating.load().catch((error: unknown) => notices.say(sentence(error), "error"));
  return () => {
    stops.forEach((stop) => stop());
    [hover, annotating, classes, blinker, painter, scene].forEach((part) => part.close());
    delete root.dataset["ready"];
  };
}

interface PageActions {
  share: () => void;
  help: () => void;
  sidePanel: () => void;
}

function topBar(shelf: Shelf, scene: Scene, tool: Store<ToolName>, to: PageActions): Node[] {
  const { name } = scene.slide;
  const several = shelf.entries.length > 1;
  return [
    ...(several ? [iconLink("back", "All slides", slidesAddress())] : []),
    el("h1", { text: name, title: name }),
    toolBar(tool, shelf.model !== null),
    el("span", { class: "gap" }),
    iconButton("minus", "Zoom out", "-", () => scene.zoomBy(-1)),
    iconButton("plus", "Zoom in", "+", () => scene.zoomBy(1)),
    iconButton("home", "Whole slide", "0", () => scene.home()),
    iconButton("link", "Copy a link to this view", "L", to.share),
    iconButton("panel", "Side panel", "\\", to.sidePanel),
    iconButton("help", "Keys", "?", to.help),
  ];
}

/** The nucleus under the pointer. */
function lightUp(board: Board, hover: Hover): void {
  board.add(({ context, px }) => {
    if (hover.outline) {
      const path = new Path2D();
      addRing(path, hover.outline, true);
      context.strokeStyle = LIT;
      context.lineWidth = 3 * px;
      context.stroke(path);
    }
  });
}

/** Start where the address says, and keep it up to date. */
function keepAddress(scene: Scene, display: Store<Display>, view: View, root: HTMLElement): void {
  const keep = debounced(ADDRESS_MS, () => {
    if (root.dataset["ready"]) {
      writeView({ slide: scene.slide.id, ...scene.centre, results: shownIds(display.value) });
    }
  });
  scene.onOpen(() => {
    if (view.x !== null && view.y !== null && view.zoom !== null && view.zoom > 0) {
      scene.goTo(view.x, view.y, view.zoom);
    }
    root.dataset["ready"] = "true";
    scene.onMove(keep);
    display.listen(keep);
    keep();
  });
}

async function copyLink(notices: Notices): Promise<void> {
  try {
    await navigator.clipboard.writeText(location.href);
    notices.say("Link copied. It opens in a browser that wsi-view has been opened in.");
  } catch {
    notices.say("The address bar holds the link to this view.");
  }
}
