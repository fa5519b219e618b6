/** Keeps track of the open connections of a server, and closes them so that a stop loses no request. */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Server as NetServer, Socket } from 'node:net';
import { setImmediate as turn, setTimeout as wait } from 'node:timers/promises';
import type { Log } from '../../domain/log.ts';
import { refusalText, sendText } from '../answer.ts';
import { ARRIVE_MAX_MS, type Connection, type Crowd, createConnection } from './connection.ts';
import { createNewcomers, NEWCOMER_BOUNDS, type NewcomerBounds } from './newcomers.ts';

const LOOK_EVERY_MS = 20;
const POLL_ROUNDS = 3;
/** A round of polling that took no longer found nearly nothing to do. */
const QUICK_MS = 1;
/** During a stop, the longest time for clients in the accept queue. Each turn of the event loop accepts one, and a
 *  commit may block it. */
const ACCEPT_MAX_MS = 5000;
/** Connections that are closed between two polls. */
const CLOSED_AT_ONCE_MAX = 8;
/** The most requests that wait on all connections of a server. */
export const CROWD_MAX = 5000;
/** The kernel asks a silent client after this time whether it is still there: one that crashed closes nothing, and its
 *  connection would take a place for ever. */
const ASK_AFTER_MS = 60_000;
/** Between two looks for connections whose head is late. */
const LATE_LOOK_MS = 1000;

export interface ConnectionBounds extends NewcomerBounds {
  /** Of more connections the oldest makes room for the newest, one without a request first. For clients that connect
   *  again by themselves: dockerd takes a closed connection for a failed call. */
  readonly roomMax?: number;
}

export interface Connections {
  /** Calls `begin` when it is the turn of the request on its connection; see `Connection`. Answers itself when too many
   *  requests wait. */
  expect(request: IncomingMessage, response: ServerResponse, begin: () => void): void;
  /** Stops accepting. Resolves when all connections are closed: each after a response that says so, or when its
   *  client is silent, and all of them after `boundMs`. */
  close(boundMs: number): Promise<void>;
}

/** `front` listens, and hands what it accepts to `http`. */
export function createConnections(
  http: Server,
  front: NetServer,
  log?: Log,
  bounds: ConnectionBounds = NEWCOMER_BOUNDS,
): Connections {
  /** All accepted sockets. `http` does not know a socket before its TLS handshake has ended. */
  const accepted = new Set<Socket>();
  const open = new Map<Socket, Connection>();
  const newcomers = createNewcomers(log, bounds);
  const crowd: Crowd = { count: 0, max: CROWD_MAX };
  let acceptedCount = 0;
  let isClosing = false;
  /** Resolves when the accept queue is empty; null: the server does not stop. */
  let emptied: Promise<void> | null = null;
  const looking = setInterval(endLate, LATE_LOOK_MS);
  looking.unref();

  front.on('connection', (socket: Socket) => {
    acceptedCount++;
    if (accepted.size >= (bounds.roomMax ?? Number.POSITIVE_INFINITY)) makeRoom();
    accepted.add(socket);
    socket.setKeepAlive(true, ASK_AFTER_MS);
    newcomers.came(socket);
    socket.once('close', () => accepted.delete(socket));
  });
  http.on('connection', (socket: Socket) => {
    const connection = createConnection(socket, crowd);
    open.set(socket, connection);
    socket.once('close', () => {
      open.delete(socket);
      connection.closed();
    });
  });

  function makeRoom(): void {
    const idle = [...open.values()].find(connection => connection.mayEnd());
    const [oldest] = accepted;
    if (idle !== undefined) idle.end();
    else oldest?.destroy();
  }

  function endLate(): void {
    for (const [socket, connection] of open) {
      if (!connection.isLate(bounds.silentMaxMs)) continue;
      log?.('warn', 'connection closed: the rest of a request did not come', { peer: socket.remoteAddress });
      socket.destroy();
    }
  }

  /** Accepts the clients in the accept queue. They are connected and may have sent a request, and the kernel resets
   *  them when the listening socket closes. Meanwhile no request begins: its client might connect anew after the answer,
   *  and the queue would never be empty. */
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
    expect(request, response, begin) {
      const { socket } = request;
      const connection = open.get(socket);
      if (connection === undefined) return begin();
      newcomers.spoke(socket);
      const refuse = (why: string) => {
        log?.('warn', 'connection ended: too many requests wait', { peer: socket.remoteAddress, why });
        sendText(response, refusalText(why));
      };
      const whenEmptied = () => {
        if (emptied === null) return begin();
        void emptied.then(() => {
          if (!socket.destroyed) begin();
        });
      };
      connection.expect({ request, response, begin: whenEmptied, refuse }, isClosing);
    },
    async close(boundMs) {
      const until = performance.now() + boundMs;
      clearInterval(looking);
      emptied = emptyAcceptQueue(until);
      await emptied;
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
