import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Server as NetServer, Socket } from 'node:net';
import { setImmediate as turn, setTimeout as wait } from 'node:timers/promises';

/** When the server stops, a connection that owes no answer is closed once nothing has come for so long. The client
 *  of one in use has sent its next request by then, and reads in the answer that the connection ends. dockerd waits as
 *  long before it tries again where nobody listens. */
const SILENT_MS = 1000;
/** How long the rest of a request's head may take when the server stops, and the rest of a TLS handshake. */
const ARRIVE_MAX_MS = 3000;
const LOOK_EVERY_MS = 20;
const POLL_ROUNDS = 3;
/** A round that took no longer had hardly anything to deal with. */
const QUICK_MS = 1;
/** How long clients are taken from the accept queue when the server stops: one in each turn of the event loop, in
 *  which a commit may block. */
const ACCEPT_MAX_MS = 5000;
/** So many connections are closed before the kernel is asked again whether something has come. */
const CLOSED_AT_ONCE_MAX = 8;
/** Requests that one client may send before it has read an answer; one more ends its connection. */
const OWED_MAX = 100;

/** The open connections of a server and the responses that each still owes. `front` listens and hands to `http` what
 *  it accepts. */
export class Connections {
  readonly #front: NetServer;
  /** As they were accepted; before a TLS handshake is over, `http` does not know of them. */
  readonly #accepted = new Set<Socket>();
  readonly #open = new Map<Socket, Connection>();
  #acceptedCount = 0;
  #isClosing = false;

  constructor(http: Server, front: NetServer) {
    this.#front = front;
    front.on('connection', (socket: Socket) => {
      this.#acceptedCount++;
      this.#accepted.add(socket);
      socket.once('close', () => this.#accepted.delete(socket));
    });
    http.on('connection', (socket: Socket) => {
      const connection = new Connection(socket);
      this.#open.set(socket, connection);
      socket.once('close', () => {
        this.#open.delete(socket);
        connection.closed();
      });
    });
  }

  /** Notes that the request is to be answered. False when it must not be handled: an answer before it has told the
   *  client that the connection ends, so the client takes it for not done. */
  owe({ socket }: IncomingMessage, response: ServerResponse): boolean {
    const connection = this.#open.get(socket);
    return connection === undefined || connection.owe(response, this.#isClosing);
  }

  /** Accepts nothing new; resolves when all connections are closed: each after an answer that says so or when its
   *  client is silent, and all after `boundMs`. */
  async close(boundMs: number): Promise<void> {
    const until = performance.now() + boundMs;
    await this.#emptyAcceptQueue(until);
    const closed = new Promise<void>(resolve => this.#front.close(() => resolve()));
    // Not before: a client that reads this connects anew, and would be in the accept queue.
    this.#isClosing = true;
    for (const connection of this.#open.values()) connection.announceEnd();
    await this.#closeSilent(until);
    for (const socket of [...this.#open.keys(), ...this.#accepted]) socket.destroy();
    await closed;
  }

  /** Clients in the accept queue are connected and may have sent a request; the kernel resets them when the listening
   *  socket closes. */
  async #emptyAcceptQueue(until: number): Promise<void> {
    const giveUpAt = Math.min(until, performance.now() + ACCEPT_MAX_MS);
    for (let quiet = 0; performance.now() < giveUpAt; ) {
      const before = this.#acceptedCount;
      const tookMs = await pollOnce();
      quiet = this.#acceptedCount === before ? quiet + 1 : 0;
      // What has kept this process busy since the kernel was asked has let others connect.
      if (quiet >= POLL_ROUNDS && tookMs < QUICK_MS) return;
    }
  }

  async #closeSilent(until: number): Promise<void> {
    const handshakesUntil = performance.now() + ARRIVE_MAX_MS;
    while (this.#accepted.size > 0 && performance.now() < until) {
      const silent = [...this.#open.values()].filter(connection => connection.mayEnd());
      for (let i = 0; i < silent.length && performance.now() < until; i += CLOSED_AT_ONCE_MAX) {
        await poll();
        for (const connection of silent.slice(i, i + CLOSED_AT_ONCE_MAX))
          if (connection.mayEnd()) connection.end();
      }
      if (this.#open.size === 0 && performance.now() > handshakesUntil)
        for (const socket of this.#accepted) socket.destroy();
      await wait(LOOK_EVERY_MS);
    }
  }
}

class Connection {
  readonly #socket: Socket;
  readonly #owed = new Set<ServerResponse>();
  /** The response that says that the connection ends. */
  #last: ServerResponse | null = null;
  /** Bytes read when it last owed nothing: any more are the beginning of a request. */
  #restBytes = 0;
  #seenBytes = 0;
  #silentSince = 0;
  #begunAt: number | null = null;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.#silentSince = performance.now();
  }

  owe(response: ServerResponse, isClosing: boolean): boolean {
    if (this.#last?.headersSent === true) return false;
    if (this.#owed.size >= OWED_MAX) {
      this.#socket.destroy();
      return false;
    }
    this.#owed.add(response);
    this.#begunAt = null;
    if (isClosing) this.announceEnd();
    response.once('close', () => this.#settle(response));
    return true;
  }

  #settle(response: ServerResponse): void {
    this.#owed.delete(response);
    if (this.#owed.size > 0) return;
    this.#restBytes = this.#seenBytes = this.#socket.bytesRead;
    this.#silentSince = performance.now();
  }

  /** Says in the last answer owed that the connection ends, so that the client sends its next request elsewhere.
   *  Requests that a client sent before it had the answer to an earlier one are all answered. */
  announceEnd(): void {
    const newest = [...this.#owed].at(-1);
    if (newest === undefined || newest.headersSent) return;
    this.#last?.removeHeader('Connection');
    this.#last = newest;
    newest.setHeader('Connection', 'close');
  }

  /** Whether it owes nothing and its client is silent, or has not ended what it began. */
  mayEnd(): boolean {
    if (this.#owed.size > 0) return false;
    const now = performance.now();
    const { bytesRead } = this.#socket;
    if (bytesRead !== this.#seenBytes) this.#silentSince = now;
    this.#seenBytes = bytesRead;
    if (bytesRead === this.#restBytes) return now - this.#silentSince >= SILENT_MS;
    this.#begunAt ??= now;
    return now - this.#begunAt >= ARRIVE_MAX_MS;
  }

  end(): void {
    this.#socket.destroySoon();
  }

  /** Deno does not tell the responses that wait for their turn. */
  closed(): void {
    for (const response of [...this.#owed]) response.emit('close');
  }
}

/** Resolves when what had come to this process at the time of the call has been read. Deno asks the kernel between
 *  timers only, and not when one is due already. */
async function poll(): Promise<void> {
  for (let round = 0; round < POLL_ROUNDS; round++) await pollOnce();
}

/** Answers for how long what came was being dealt with, in milliseconds. */
async function pollOnce(): Promise<number> {
  await wait(1);
  const askedAt = performance.now();
  await turn();
  return performance.now() - askedAt;
}
