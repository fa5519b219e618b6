/** Keeps track of the open connections of a server, and closes them so that a stop loses no request. */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Server as NetServer, Socket } from 'node:net';
import { setImmediate as turn, setTimeout as wait } from 'node:timers/promises';

/** During a stop, a connection without a pending response is closed when nothing has arrived for this long. By then
 *  the client of an active connection has sent its next request, and its response says that the connection ends.
 *  dockerd waits this long before it connects again where nobody listens. */
const SILENT_MS = 1000;
/** During a stop, the longest wait for the rest of a request's head, and for the rest of a TLS handshake. */
const ARRIVE_MAX_MS = 3000;
/** The longest time that a connection is read after its last response. The kernel resets a connection that is
 *  closed with unread input, and a client that is reset while it sends may lose responses that it has not read. */
const LINGER_MAX_MS = 1000;
const LOOK_EVERY_MS = 20;
const POLL_ROUNDS = 3;
/** A round of polling that took no longer found nearly nothing to do. */
const QUICK_MS = 1;
/** During a stop, the longest time for clients in the accept queue. Each turn of the event loop accepts one, and a
 *  commit may block it. */
const ACCEPT_MAX_MS = 5000;
/** Connections that are closed between two polls. */
const CLOSED_AT_ONCE_MAX = 8;
/** The most pending responses of one connection. One more request ends the connection. */
const PENDING_MAX = 100;

export interface Connections {
  /** Notes that the request is to be answered. Returns false when it must not be handled: the client was told that
   *  the connection ends, so it regards the request as not done. */
  expect(request: IncomingMessage, response: ServerResponse): boolean;
  /** Stops accepting. Resolves when all connections are closed: each after a response that says so, or when its
   *  client is silent, and all of them after `boundMs`. */
  close(boundMs: number): Promise<void>;
}

/** `front` listens, and hands what it accepts to `http`. */
export function createConnections(http: Server, front: NetServer): Connections {
  /** All accepted sockets. `http` does not know a socket before its TLS handshake has ended. */
  const accepted = new Set<Socket>();
  const open = new Map<Socket, Connection>();
  let acceptedCount = 0;
  let isClosing = false;

  front.on('connection', (socket: Socket) => {
    acceptedCount++;
    accepted.add(socket);
    socket.once('close', () => accepted.delete(socket));
  });
  http.on('connection', (socket: Socket) => {
    const connection = createConnection(socket);
    open.set(socket, connection);
    socket.once('close', () => {
      open.delete(socket);
      connection.closed();
    });
  });

  /** Accepts the clients in the accept queue. They are connected and may have sent a request, and the kernel resets
   *  them when the listening socket closes. */
  async function emptyAcceptQueue(until: number): Promise<void> {
    const giveUpAt = Math.min(until, performance.now() + ACCEPT_MAX_MS);
    for (let quiet = 0; performance.now() < giveUpAt; ) {
      const before = acceptedCount;
      const tookMs = await pollOnce();
      quiet = acceptedCount === before ? quiet + 1 : 0;
      // Other clients may have connected while this process was busy.
      if (quiet >= POLL_ROUNDS && tookMs < QUICK_MS) return;
    }
  }

  async function closeSilent(until: number): Promise<void> {
    const handshakesUntil = performance.now() + ARRIVE_MAX_MS;
    while (accepted.size > 0 && performance.now() < until) {
      const silent = [...open.values()].filter(connection => connection.mayEnd());
      for (let i = 0; i < silent.length && performance.now() < until; i += CLOSED_AT_ONCE_MAX) {
        await poll();
        for (const connection of silent.slice(i, i + CLOSED_AT_ONCE_MAX))
          if (connection.mayEnd()) connection.end();
      }
      if (open.size === 0 && performance.now() > handshakesUntil)
        for (const socket of accepted) socket.destroy();
      await wait(LOOK_EVERY_MS);
    }
  }

  return {
    expect({ socket }, response) {
      const connection = open.get(socket);
      return connection === undefined || connection.expect(response, isClosing);
    },
    async close(boundMs) {
      const until = performance.now() + boundMs;
      await emptyAcceptQueue(until);
      const closed = new Promise<void>(resolve => front.close(() => resolve()));
      // Not earlier: a client that reads it connects again, and would be in the accept queue.
      isClosing = true;
      for (const connection of open.values()) connection.announceEnd();
      await closeSilent(until);
      for (const socket of [...open.keys(), ...accepted]) socket.destroy();
      await closed;
    },
  };
}

/** One connection and its pending responses. */
interface Connection {
  /** As `Connections` has it. */
  expect(response: ServerResponse, isClosing: boolean): boolean;
  /** Says in the last pending response that the connection ends, so that the client sends its next request elsewhere.
   *  All requests that a client sent ahead are answered. */
  announceEnd(): void;
  /** Whether no response is pending and the client is silent, or has not completed the request that it began. */
  mayEnd(): boolean;
  /** Ends the connection, and reads it until the client ends it too. */
  end(): void;
  /** The socket has closed. */
  closed(): void;
}

function createConnection(socket: Socket): Connection {
  const pending = new Set<ServerResponse>();
  /** The response that says that the connection ends. */
  let last: ServerResponse | null = null;
  /** The bytes read when no response was pending. Further bytes begin a request. */
  let restBytes = 0;
  let seenBytes = 0;
  let silentSince = performance.now();
  let begunAt: number | null = null;
  let isEnding = false;

  function end(): void {
    if (isEnding) return;
    isEnding = true;
    socket.end();
    const lingering = setTimeout(() => socket.destroy(), LINGER_MAX_MS);
    socket.once('close', () => clearTimeout(lingering));
  }
  // node:http calls it after a response that says that the connection ends.
  socket.destroySoon = end;

  function announceEnd(): void {
    const newest = [...pending].at(-1);
    if (newest === undefined || newest.headersSent) return;
    last?.removeHeader('Connection');
    last = newest;
    newest.setHeader('Connection', 'close');
  }

  function settle(response: ServerResponse): void {
    pending.delete(response);
    if (pending.size > 0) return;
    restBytes = seenBytes = socket.bytesRead;
    silentSince = performance.now();
  }

  return {
    expect(response, isClosing) {
      if (isEnding || last?.headersSent === true) return false;
      if (pending.size >= PENDING_MAX) {
        socket.destroy();
        return false;
      }
      pending.add(response);
      begunAt = null;
      if (isClosing) announceEnd();
      response.once('close', () => settle(response));
      return true;
    },
    announceEnd,
    mayEnd() {
      if (isEnding || pending.size > 0) return false;
      const now = performance.now();
      const { bytesRead } = socket;
      if (bytesRead !== seenBytes) silentSince = now;
      seenBytes = bytesRead;
      if (bytesRead === restBytes) return now - silentSince >= SILENT_MS;
      begunAt ??= now;
      return now - begunAt >= ARRIVE_MAX_MS;
    },
    end,
    closed() {
      // Deno does not close the responses that wait for their turn.
      for (const response of [...pending]) response.emit('close');
    },
  };
}

/** Resolves when everything that had arrived at the time of the call has been read. Deno asks the kernel only between
 *  timers, and not when one is already due. */
async function poll(): Promise<void> {
  for (let round = 0; round < POLL_ROUNDS; round++) await pollOnce();
}

/** Returns the time that this process took to handle what had arrived, in milliseconds. */
async function pollOnce(): Promise<number> {
  await wait(1);
  const askedAt = performance.now();
  await turn();
  return performance.now() - askedAt;
}
