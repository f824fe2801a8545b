// One object asked for by points, a box or a rough outline, until it is accepted or given up.
import { boxOf } from "../objects/geometry";
import { Store } from "../page/store";
import { pause } from "../page/timing";
import { ApiError, isAbort, post, sentence } from "../server/api";
import type { Answer, Areal, Candidate, Look, Point, Question } from "../server/types";
import { lookAt, Seen } from "./looking";

const BUSY_MS = 1000;

export interface Prompt {
  points: [number, number, 0 | 1][];
  box: [number, number, number, number] | null;
  outline: Areal | null;
}

export interface Prompting extends Prompt {
  state: "idle" | "looking" | "asking" | "answered" | "failed";
  look: Look | null;
  answer: Answer | null;
  chosen: number;
  message: string | null;
}

const NOTHING: Prompting = {
  points: [],
  box: null,
  outline: null,
  state: "idle",
  look: null,
  answer: null,
  chosen: 0,
  message: null,
};

export const isEmpty = ({ points, box, outline }: Prompt) => !points.length && !box && !outline;

/** The point that a prompt is about. */
function placeOf({ points, box, outline }: Prompt): Point {
  if (box) {
    return [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
  }
  if (outline) {
    const { x, y, width, height } = boxOf(outline);
    return [x + width / 2, y + height / 2];
  }
  const [first] = points.filter(([, , sign]) => sign === 1).concat(points);
  return first ? [first[0], first[1]] : [0, 0];
}

export class PromptDesk {
  readonly state = new Store<Prompting>(NOTHING);
  private control = new AbortController();
  private readonly seen = new Seen();

  constructor(private readonly slide: string) {}

  get active(): boolean {
    return !isEmpty(this.state.value);
  }

  get candidate(): Candidate | null {
    const { answer, chosen } = this.state.value;
    return answer?.candidates[chosen] ?? null;
  }

  point([x, y]: Point, sign: 0 | 1): void {
    const point: [number, number, 0 | 1] = [round(x), round(y), sign];
    this.ask({ points: [...this.state.value.points, point] });
  }

  box(a: Point, b: Point): void {
    const [x0, x1] = [Math.min(a[0], b[0]), Math.max(a[0], b[0])];
    const [y0, y1] = [Math.min(a[1], b[1]), Math.max(a[1], b[1])];
    this.ask({ box: [round(x0), round(y0), round(x1), round(y1)], outline: null });
  }

  outline(geometry: Areal): void {
    this.ask({ outline: geometry, box: null });
  }

  /** Take the last point back, or what else there is. */
  back(): void {
    const { points } = this.state.value;
    const part = points.length ? { points: points.slice(0, -1) } : { box: null, outline: null };
    if (isEmpty({ ...this.state.value, ...part })) {
      this.cancel();
    } else {
      this.ask(part, null);
    }
  }

  next(by: number): void {
    const { answer, chosen } = this.state.value;
    const n = answer?.candidates.length ?? 0;
    if (n) {
      this.state.change({ chosen: (chosen + by + n) % n });
    }
  }

  cancel(): void {
    this.control.abort();
    this.state.value = NOTHING;
  }

  /** Ask anew; what is new goes on from the answer before, what was taken back does not. */
  private ask(part: Partial<Prompt>, previous = this.candidate?.token ?? null): void {
    this.control.abort();
    this.control = new AbortController();
    this.state.change({ ...part, message: null });
    const { points, box, outline } = this.state.value;
    void this.answered({ points, box, outline, previous }, this.control.signal);
  }

  private async answered(question: Question, signal: AbortSignal): Promise<void> {
    try {
      await this.looked(placeOf(question), signal);
      this.state.change({ state: "asking" });
      const answer = await this.told(question, signal);
      this.state.change({ state: "answered", answer, chosen: 0 });
    } catch (error) {
      if (!isAbort(error)) {
        this.state.change({ state: "failed", answer: null, message: sentence(error) });
      }
    }
  }

  /** The answer; where the model is still busy with something else, it is asked again. */
  private async told(question: Question, signal: AbortSignal): Promise<Answer> {
    for (;;) {
      try {
        return await post<Answer>(`/api/slides/${this.slide}/ask`, question, signal);
      } catch (error) {
        if (!(error instanceof ApiError) || error.reason !== "busy") {
          throw error;
        }
        await pause(BUSY_MS, signal);
      }
    }
  }

  private async looked(place: Point, signal: AbortSignal): Promise<void> {
    if (this.seen.has(place)) {
      return;
    }
    this.state.change({ state: "looking" });
    await lookAt(this.slide, place, signal, (look) => {
      this.state.change({ look });
      if (look.state === "ready" && look.box) {
        this.seen.add(look.box);
      }
    });
  }
}

const round = (value: number) => Math.round(value * 10) / 10;
