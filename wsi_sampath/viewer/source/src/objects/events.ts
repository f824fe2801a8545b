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
        };
      };
      /** Of the candidate that was accepted; it then counts, not the feature. */
      token: string | null;
    }
  | { type: "change"; id: string; geometry?: Areal; name?: string | null; class?: string | null }
  | { type: "delete"; ids: string[] }
  | { type: "class"; name: string; color: string }
  | { type: "undo" }
  | { type: "redo" };
