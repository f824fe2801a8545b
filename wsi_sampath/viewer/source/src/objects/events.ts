// The steps of a session, as the server takes them.
import type { Areal } from "../server/types";

export type SessionEvent =
  | {
      type: "add";
      feature: {
        geometry: Areal;
        properties: {
          name: string | null;
          class: string | null;
          quality: number | null;
          prompt: unknown;
        };
      };
    }
  | { type: "change"; id: string; geometry?: Areal; name?: string | null; class?: string | null }
  | { type: "delete"; ids: string[] }
  | { type: "class"; name: string; color: string }
  | { type: "undo" }
  | { type: "redo" };
