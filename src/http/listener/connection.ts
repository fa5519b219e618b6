/** One connection: its requests are handled one after the other, and few may wait. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** During a stop, a connection without a pending response is closed when nothing has arrived for this long. By then
 *  the client of an active connection has sent its next request, and its response says that the connection ends.
 *  dockerd waits this long before it connects again where nobody listens. */
const SILENT_MS = 1000;
/** During a stop, the longest wait for the rest of a request's head, and for the rest of a TLS handshake. */
export const ARRIVE_MAX_MS = 3000;
/** The longest time that a connection is read after its last response. The kernel resets a connection that is
 *  closed with unread input, and a client that is reset while it sends may lose responses that it has not read. */
const LINGER_MAX_MS = 1000;
/** Fewer bytes are no head: an old client may send an empty line after a body. */
const HEAD_BYTES_MIN = 16;
/** The most requests of one connection that wait, with the one that is handled. */
export const PENDING_MAX = 100;

/** How long a request that was sent ahead waits when its turn has come, in milliseconds: others go first. dockerd sends
 *  none ahead. */
const AHEAD_MS = 10;

/** The requests of all connections that wait. */
export interface Crowd {
  count: number;
  readonly max: number;
}

export interface Connection {
  /** Calls `begin` when the request is the next on the connection: a response that is written earlier would wait for
   *  the responses to earlier requests, and be lost without notice when the connection closes. Never calls it when the
   *  connection closes before, or the client was told that it ends and so regards the request as not done. */
  expect(asked: Asked, isClosing: boolean): void;
  /** Says in the last pending response that the connection ends, so that the client sends its next request elsewhere.
   *  All requests that a client sent ahead are answered. */
  announceEnd(): void;
  /** Whether no response is pending and the client is silent, or has not completed the request that it began. */
  mayEnd(): boolean;
  /** Whether the rest of a request's head has not come for so long, in milliseconds. Never for an idle connection. */
  isLate(headMaxMs: number): boolean;
  /** Ends the connection, and reads it until the client ends it too. */
  end(): void;
  /** The socket has closed. */
  closed(): void;
}

export interface Asked {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly begin: () => void;
  /** Writes the response to a request that is one too many. */
  readonly refuse: (why: string) => void;
}

export function createConnection(socket: Socket, crowd: Crowd): Connection {
  const pending = new Set<ServerResponse>();
  /** The response that says that the connection ends. */
  let last: ServerResponse | null = null;
  /** The bytes read when no response was pending. Further bytes begin a request. */
  let restBytes = 0;
  let seenBytes = 0;
  let silentSince = performance.now();
  let begunAt: number | null = null;
  /** The bytes behind which a head begins; infinite while that is not known. */
  let headFrom = Number.POSITIVE_INFINITY;
  let lateSince: number | null = null;
  let isEnding = false;
  let lastTurn = -1;

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

  function settle({ request, response }: Asked): void {
    if (!pending.delete(response)) return;
    crowd.count--;
    if (pending.size > 0) return;
    restBytes = seenBytes = socket.bytesRead;
    silentSince = performance.now();
    headFrom = request.complete ? restBytes : Number.POSITIVE_INFINITY;
  }

  /** Why there is no place for one more; null: there is. A connection's first has one always. */
  function crowded(): string | null {
    if (pending.size === 0) return null;
    if (pending.size >= PENDING_MAX) return `${PENDING_MAX} requests wait on this connection`;
    return crowd.count >= crowd.max ? `${crowd.max} requests wait on the server` : null;
  }

  function expect(asked: Asked, isClosing: boolean): void {
    const { response, begin, refuse } = asked;
    if (isEnding || last?.headersSent === true) return;
    const why = crowded();
    pending.add(response);
    crowd.count++;
    begunAt = lateSince = null;
    response.once('close', () => settle(asked));
    if (why !== null || isClosing) announceEnd();
    if (why !== null) {
      refuse(why);
      discardInput(socket);
    } else if (response.socket !== null) start(begin);
    else
      response.once('socket', () => {
        setTimeout(() => {
          if (!socket.destroyed) start(begin);
        }, AHEAD_MS);
      });
  }

  /** Begins one request in each turn of the event loop, so that other connections are read in between. */
  function start(begin: () => void): void {
    const turn = turnOfLoop();
    if (turn === lastTurn) {
      setTimeout(start, AHEAD_MS, begin);
      return;
    }
    lastTurn = turn;
    begin();
  }

  return {
    expect,
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
    isLate(headMaxMs) {
      const hasBegun = pending.size === 0 && socket.bytesRead - headFrom >= HEAD_BYTES_MIN;
      lateSince = hasBegun ? (lateSince ?? performance.now()) : null;
      return lateSince !== null && performance.now() - lateSince >= headMaxMs;
    },
    end,
    closed() {
      // Deno does not close the responses that wait for their turn.
      for (const response of [...pending]) response.emit('close');
    },
  };
}

let turns = 0;
let isTurning = false;
/** Returns the number of the turn that the event loop is in. Counted from one call to the next. */
function turnOfLoop(): number {
  if (!isTurning) {
    isTurning = true;
    setImmediate(() => {
      isTurning = false;
      turns++;
    });
  }
  return turns;
}

/** What tells node:http's parser that the rest of its input is no HTTP. */
const ENDS_PARSING = 2;

/** What node:http keeps on the sockets that it reads, on all runtimes. */
interface Parsed {
  readonly parser?: { readonly _consumed?: boolean; unconsume?(): void; onIncoming?: () => number } | null;
}

/** Reads the socket on, so that its end is seen, but no request of it: each would take up memory until the end. */
function discardInput(socket: Socket): void {
  const discard = () => {};
  socket.on('data', discard); // on Node this takes the socket from the parser
  const { parser } = socket as Parsed;
  if (parser?._consumed === true) parser.unconsume?.();
  if (parser) parser.onIncoming = () => ENDS_PARSING; // for what was read with this request
  for (const listener of socket.listeners('data'))
    if (listener !== discard) socket.off('data', listener as () => void);
  socket.resume();
}
