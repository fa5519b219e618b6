/** A client that keeps its connection from call to call, as dockerd does, and knows which of its requests were lost. */
import type { Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { pause } from '../wait.ts';
import { bodyOf, dockerds, exchange, isWhole } from './raw-http.ts';

/** As long as dockerd tries to reach a server that is not there. */
const KNOCK_MAX_MS = 15_000;
const KNOCK_AGAIN_MS = 20;

export interface Dialled {
  readonly socket: Socket;
  /** When requests may be written: `connect`, or with TLS `secureConnect`. */
  readonly ready: 'connect' | 'secureConnect';
}
export type Reply = Readonly<Record<string, unknown>>;

export class KeepAliveClient {
  readonly #dial: () => Dialled;
  #socket: Socket | null = null;
  #usedAt = 0;
  /** Requests that were wholly answered. */
  answered = 0;
  /** Requests that were written and not wholly answered, with what came instead. */
  readonly broken: string[] = [];

  constructor(dial: () => Dialled) {
    this.#dial = dial;
  }

  get isConnected(): boolean {
    return this.#socket !== null;
  }

  /** The answer; null when the connection broke before it was whole. Knocks again where nobody listens. */
  async call(path: string, body: unknown): Promise<Reply | null> {
    const socket = await this.#connection();
    const silentMs = performance.now() - this.#usedAt;
    const sentAt = performance.now();
    const response = await exchange(socket, dockerds(path, `${JSON.stringify(body)}\n`));
    if (!isWhole(response)) {
      this.broken.push(
        `${path} after ${silentMs.toFixed()} ms of silence, ${(performance.now() - sentAt).toFixed(1)} ms later: ` +
          (response || 'nothing came'),
      );
      this.close();
      return null;
    }
    this.answered++;
    this.#usedAt = performance.now();
    if (/^connection: *close$/im.test(response)) this.close();
    return JSON.parse(bodyOf(response));
  }

  close(): void {
    this.#socket?.destroy();
    this.#socket = null;
  }

  async #connection(): Promise<Socket> {
    // As a client that reads all the time, it knows of an end that has arrived. The first may be in this turn still.
    await turn();
    await turn();
    const until = performance.now() + KNOCK_MAX_MS;
    while (this.#socket === null) {
      this.#socket = await this.#knock();
      if (this.#socket !== null) {
        this.#usedAt = performance.now();
        break;
      }
      if (performance.now() > until) throw new Error(`nobody listens for ${KNOCK_MAX_MS} ms`);
      await pause(KNOCK_AGAIN_MS);
    }
    return this.#socket;
  }

  #knock(): Promise<Socket | null> {
    const { socket, ready } = this.#dial();
    return new Promise(resolve => {
      const over = () => {
        if (this.#socket === socket) this.#socket = null;
        resolve(null);
      };
      socket.once(ready, () => resolve(socket));
      socket.on('error', over).on('end', over).on('close', over);
    });
  }
}
