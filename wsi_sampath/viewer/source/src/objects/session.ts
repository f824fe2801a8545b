// The annotations of a slide. The server has each step on its disk before it answers.
import { Store } from "../page/store";
import { ApiError, get, post, request } from "../server/api";
import type { Imported, Session } from "../server/types";
import type { SessionEvent } from "./events";

const EMPTY: Session = {
  revision: 0,
  objects: [],
  classes: [],
  can_undo: false,
  can_redo: false,
  notes: [],
};

export class SessionDesk {
  readonly state = new Store<Session>(EMPTY);
  private queue: Promise<unknown> = Promise.resolve();
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
    const sent = this.queue.then(() => this.sendNow(event));
    this.queue = sent;
    return sent;
  }

  private async sendNow(event: SessionEvent): Promise<boolean> {
    try {
      this.state.value = await this.posted(event);
      return true;
    } catch (error) {
      this.failed(error);
      return false;
    }
  }

  /** Where another page was quicker, take its state; what only adds is then sent once more. */
  private async posted(event: SessionEvent): Promise<Session> {
    const once = () =>
      post<Session>(this.url, { revision: this.state.value.revision, event });
    try {
      return await once();
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 409) {
        throw error;
      }
      await this.load();
      if (event.type === "add" || event.type === "class") {
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
