// Whether the server is there and lets this page in, as the latest answers tell.
import { Store } from "../page/store";

export type Loss = "unreachable" | "signed-out";

/** What keeps the page from the server; null while all is well. */
export const loss = new Store<Loss | null>(null);

/** An answer, or that there was none (0). */
export function heard(status: number): void {
  const now = status === 0 ? "unreachable" : status === 401 ? "signed-out" : null;
  if (now !== loss.value) {
    loss.value = now;
  }
}
