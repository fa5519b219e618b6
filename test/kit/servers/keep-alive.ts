/** A client that keeps its connection from call to call, as dockerd does, and knows which of its requests were lost. */
import type { Socket } from 'node:net';
import { setImmediate as turn, setTimeout as wait } from 'node:timers/promises';
import { bodyOf, dockerds, isWhole } from './raw-http.ts';

const ANSWER_MAX_MS = 30_000;
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
      await wait(KNOCK_AGAIN_MS);
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

/** What came for the request until it was whole, or until the connection ended. */
function exchange(socket: Socket, request: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let response = '';
    const settle = () => {
      clearTimeout(late);
      socket.off('data', onData).off('close', settle).off('end', settle);
      resolve(response);
    };
    const onData = (chunk: Buffer) => {
      response += chunk.toString('latin1');
      if (isWhole(response)) settle();
    };
    const late = setTimeout(() => {
      reject(new Error(`no whole answer within ${ANSWER_MAX_MS} ms: ${response}`));
    }, ANSWER_MAX_MS);
    socket.on('data', onData).on('close', settle).on('end', settle);
    socket.write(request);
  });
}
