// The annotations of a slide. The server has each step on its disk before it answers.
import { Store } from "../page/store";
import { pause } from "../page/timing";
import { ApiError, get, isAbort, post, request, sentence } from "../server/api";
import type { Imported, Session, Shape } from "../server/types";
import type { SessionEvent } from "./events";

const EMPTY: Session = {
  revision: 0,
  objects: [],
  classes: [],
  can_undo: false,
  can_redo: false,
  notes: [],
};

const AGAIN_MS = 2000;
// Not this step's fault: it is sent again until it is taken.
const PASSING = new Set([0, 401, 429, 503]);

const same = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b);

export class SessionDesk {
  readonly state = new Store<Session>(EMPTY);
  /** Steps that the server has not acknowledged yet, the oldest first. */
  readonly waiting = new Store<SessionEvent[]>([]);
  /** Why the oldest of them was not taken yet. */
  readonly hindrance = new Store<string | null>(null);
  private queue: Promise<unknown> = Promise.resolve();
  private readonly control = new AbortController();
  private readonly url: string;

  constructor(
    private readonly slide: string,
    private readonly failed: (error: unknown) => void,
  ) {
    this.url = `/api/slides/${slide}/session`;
  }

  async load(): Promise<void> {
    this.state.value = await get<Session>(this.url);
  }

  /** One step after the other; whether it was taken. */
  send(event: SessionEvent): Promise<boolean> {
    this.waiting.value = [...this.waiting.value, event];
    const sent = this.queue.then(() => this.sendNow(event));
    this.queue = sent;
    return sent;
  }

  close(): void {
    this.control.abort();
  }

  private async sendNow(event: SessionEvent): Promise<boolean> {
    try {
      const state = await this.taken(event);
      this.done(event);
      this.state.value = state;
      return true;
    } catch (error) {
      this.done(event);
      if (!isAbort(error)) {
        this.failed(error);
      }
      return false;
    }
  }

  private done(event: SessionEvent): void {
    this.hindrance.value = null;
    this.waiting.value = this.waiting.value.filter((other) => other !== event);
  }

  /** Send a step until the server has it, however long the server is away. */
  private async taken(event: SessionEvent): Promise<Session> {
    let doubtful = false;
    for (;;) {
      try {
        return doubtful && (await this.hadIt(event)) ? this.state.value : await this.posted(event);
      } catch (error) {
        if (!(error instanceof ApiError) || !PASSING.has(error.status)) {
          throw error;
        }
        doubtful ||= error.status === 0;
        this.hindrance.value = sentence(error);
        await pause(AGAIN_MS, this.control.signal);
      }
    }
  }

  /** Whether a step arrived although its answer was lost. */
  private async hadIt(event: SessionEvent): Promise<boolean> {
    const { revision, objects } = this.state.value;
    await this.load();
    const now = this.state.value;
    if (event.type !== "add") {
      return now.revision === revision + 1;
    }
    const { geometry } = event.feature;
    const known = new Set(objects.map(({ id }) => id));
    return now.objects.some((shape) => !known.has(shape.id) && same(shape.geometry, geometry));
  }

  /** Where another page was quicker, take its state; the step is sent again if it still fits. */
  private async posted(event: SessionEvent): Promise<Session> {
    const once = () =>
      post<Session>(this.url, { revision: this.state.value.revision, event }, this.control.signal);
    try {
      return await once();
    } catch (error) {
      if (!(error instanceof ApiError)) {
        throw error;
      }
      if (error.status === 400 && event.type === "add" && event.token !== null) {
        // A server that was started anew knows the candidate no more; its outline is kept.
        event.token = null;
        return await once();
      }
      if (error.status !== 409) {
        throw error;
      }
      const before = this.state.value.objects;
      await this.load();
      if (fits(event, before, this.state.value.objects)) {
        return await once();
      }
      throw new ApiError(409, "stale", "The annotations were changed elsewhere; please look again.");
    }
  }

  get exportUrl(): string {
    return `/api/slides/${this.slide}/annotations.geojson`;
  }

  /** Read annotations from a file of QuPath's; returns the session that it made. */
  async import(file: File): Promise<Imported> {
    const answer = await request(`/api/slides/${this.slide}/annotations`, {
      method: "POST",
      headers: { "Content-Type": "application/geo+json" },
      body: file,
    });
    const imported = (await answer.json()) as Imported;
    this.state.value = imported;
    return imported;
  }
}

/** Whether a step means the same after others changed something: what it is about is as before. */
function fits(event: SessionEvent, before: Shape[], now: Shape[]): boolean {
  if (event.type === "add" || event.type === "class") {
    return true;
  }
  if (event.type === "undo" || event.type === "redo") {
    return false;
  }
  const ids = event.type === "change" ? [event.id] : event.ids;
  const find = (shapes: Shape[], id: string) => shapes.find((shape) => shape.id === id);
  return ids.every((id) => find(now, id) && same(find(before, id), find(now, id)));
}
