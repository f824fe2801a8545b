// A value that tells who asks when it changed.

export class Store<T> {
  private readonly listeners = new Set<(value: T) => void>();

  constructor(private held: T) {}

  get value(): T {
    return this.held;
  }

  set value(next: T) {
    this.held = next;
    for (const listener of [...this.listeners]) {
      listener(next);
    }
  }

  /** Change some fields of an object. */
  change(part: Partial<T>): void {
    this.value = { ...this.held, ...part };
  }

  /** Listen, starting with the present value. */
  watch(listener: (value: T) => void): () => void {
    listener(this.held);
    return this.listen(listener);
  }

  listen(listener: (value: T) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
}
