// Annotating a slide: the session, the tools that add to it, and prompting where there is a model.
import type { Notices } from "../page/notice";
import type { Store } from "../page/store";
import { ActiveClass } from "../objects/classes";
import { areaOf, boxOf, isAreal } from "../objects/geometry";
import { objectPanel, titleOf } from "../objects/panel";
import { SessionDesk } from "../objects/session";
import { Shapes } from "../objects/shapes";
import { promptBar } from "../prompts/bar";
import { PromptDesk } from "../prompts/prompting";
import { PromptTool } from "../prompts/tool";
import { sentence } from "../server/api";
import type { Areal, Model, Point } from "../server/types";
import type { Board } from "../tools/board";
import { DragTool, PolygonTool } from "../tools/draw";
import { Surface, type ToolName } from "../tools/surface";
import { VertexTool } from "../tools/vertices";
import type { Scene } from "./scene";

export class Annotating {
  readonly session: SessionDesk;
  readonly shapes: Shapes;
  readonly active: ActiveClass;
  readonly desk: PromptDesk;
  readonly surface: Surface;
  readonly panel: HTMLElement;
  readonly bar: HTMLElement | null;
  readonly polygon: PolygonTool;
  readonly vertices: VertexTool;
  readonly points: PromptTool;

  constructor(
    private readonly scene: Scene,
    board: Board,
    readonly tool: Store<ToolName>,
    readonly model: Model | null,
    private readonly notices: Notices,
  ) {
    this.session = new SessionDesk(scene.slide.id, (error) => notices.say(sentence(error), "error"));
    this.shapes = new Shapes(this.session, board);
    const names = scene.slide.results.flatMap(({ classes }) => classes.map(({ name }) => name));
    this.active = new ActiveClass(this.session, names);
    this.desk = new PromptDesk(scene.slide.id);
    const color = () => this.active.color;
    const scale = () => scene.frame.scale;
    // What was drawn beside the slide was drawn onto its edge, and is nothing.
    const add = (geometry: Areal) => areaOf(geometry) > 0 && void this.add(geometry, null);
    this.points = new PromptTool(this.desk, board, color);
    this.polygon = new PolygonTool(board, scale, color, add);
    this.vertices = new VertexTool(board, scale, (id, geometry) => {
      void this.session.send({ type: "change", id, geometry });
    });
    this.shapes.hiddenId = () => this.vertices.id;
    const rough = (geometry: Areal) => this.drawn(geometry);
    this.surface = new Surface(scene, tool, {
      point: this.points,
      freehand: new DragTool("freehand", board, scale, color, rough),
      polygon: this.polygon,
      rectangle: new DragTool("rectangle", board, scale, color, add),
      edit: this.vertices,
    });
    this.bar = model && promptBar(this.desk, model, this.points.flipped, () => this.accept());
    this.panel = objectPanel(scene, this.session, this.shapes, this.active, notices, {
      edit: () => this.edit(),
      remove: () => void this.remove(),
    });
    this.active.name.listen(board.redraw);
    tool.watch(() => this.changed());
    this.desk.state.listen(() => this.showBar());
  }

  close(): void {
    this.desk.cancel();
    this.session.close();
  }

  /** Whether something that was done is not on the server's disk yet. */
  get unsaved(): boolean {
    return this.session.waiting.value.length > 0;
  }

  async load(): Promise<void> {
    await this.session.load();
    const { notes } = this.session.state.value;
    if (notes.length) {
      this.notices.say(notes.join(" "));
    }
  }

  private changed(): void {
    const name = this.tool.value;
    if (name !== "edit") {
      this.vertices.finish();
    }
    if (name !== "polygon") {
      this.polygon.cancel();
    }
    this.showBar();
  }

  private showBar(): void {
    const asks = this.tool.value === "point" || this.tool.value === "freehand";
    if (this.bar) {
      this.bar.hidden = !asks && !this.desk.active;
    }
  }

  /** A freehand outline is refined by the model; without one it is taken as drawn. */
  private drawn(geometry: Areal): void {
    if (this.model) {
      this.desk.outline(geometry);
    } else {
      void this.add(geometry, null);
    }
  }

  private add(geometry: Areal, token: string | null): Promise<boolean> {
    const properties = { name: null, class: this.active.name.value };
    return this.session.send({ type: "add", feature: { geometry, properties }, token });
  }

  /** Keep the candidate, once; until the server has it on disk it is drawn dashed. */
  accept(): void {
    const { candidate } = this.desk;
    if (candidate && this.desk.state.value.state === "answered") {
      void this.add(candidate.geometry, candidate.token);
      this.desk.cancel();
    }
  }

  edit(): void {
    const shape = this.shapes.chosen;
    if (shape && isAreal(shape.geometry)) {
      this.vertices.start(shape.id, shape.geometry, shape.properties.color ?? this.active.color);
      this.scene.show(boxOf(shape.geometry));
      this.tool.value = "edit";
      this.notices.say("Drag corners; click an edge to add one; Delete takes one away; Enter keeps.");
    }
  }

  async remove(): Promise<void> {
    const shape = this.shapes.chosen;
    if (shape && (await this.session.send({ type: "delete", ids: [shape.id] }))) {
      this.notices.say(`${titleOf(shape)} deleted; Ctrl+Z brings it back.`);
    }
  }

  select(at: Point): void {
    this.shapes.selected.value = this.shapes.at(at)?.id ?? null;
  }

  /** Give the selected object the n-th class, or else what is drawn next. */
  classKey(n: number): void {
    const shape = this.shapes.chosen;
    if (this.active.choose(n) && shape && !this.desk.active) {
      void this.session.send({ type: "change", id: shape.id, class: this.active.name.value });
    }
  }

  /** Enter. */
  confirm(): void {
    if (this.tool.value === "edit") {
      this.tool.value = "pan";
    } else if (this.polygon.active) {
      this.polygon.finish();
    } else {
      this.accept();
    }
  }

  /** Esc: give up what is under way; with nothing under way, select nothing and pan. */
  cancel(): void {
    if (this.tool.value === "edit") {
      this.vertices.cancel();
      this.tool.value = "pan";
    } else if (this.polygon.active) {
      this.polygon.cancel();
    } else if (this.desk.active) {
      this.desk.cancel();
    } else {
      this.shapes.selected.value = null;
      this.tool.value = "pan";
    }
  }

  /** Backspace. */
  back(): void {
    if (this.tool.value === "edit") {
      this.vertices.remove();
    } else if (this.polygon.active) {
      this.polygon.back();
    } else if (this.desk.active) {
      this.desk.back();
    } else {
      void this.remove();
    }
  }

  undo(): void {
    if (this.tool.value === "edit") {
      this.vertices.undo();
    } else if (this.desk.active) {
      this.desk.back();
    } else {
      void this.session.send({ type: "undo" });
    }
  }

  redo(): void {
    if (this.tool.value !== "edit") {
      void this.session.send({ type: "redo" });
    }
  }
}
