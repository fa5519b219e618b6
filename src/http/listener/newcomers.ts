/**
 * Bounds the connections of clients that have not sent a request yet: that do not end their TLS handshake, are silent,
 * or stop in the middle of a head. The oldest makes room for the newest, so that a client that speaks at once is
 * served however many are silent. A connection whose client has sent a request is not bounded here.
 */
import type { Log } from '../../domain/log.ts';

export interface NewcomerBounds {
  /** The longest time from the connection to the head of the first request, and for a later head from its first bytes
   *  on, in milliseconds. */
  readonly silentMaxMs: number;
  /** All of them, and those of one address. Behind one address may be many hosts. */
  readonly totalMax: number;
  readonly ofAddressMax: number;
}

export const NEWCOMER_BOUNDS: NewcomerBounds = { silentMaxMs: 30_000, totalMax: 4000, ofAddressMax: 1000 };

/** What is needed of a socket. */
interface Peer {
  readonly remoteAddress?: string | undefined;
  readonly remotePort?: number | undefined;
  destroy(): unknown;
  once(event: 'close', gone: () => void): unknown;
}

export interface Newcomers {
  came(socket: Peer): void;
  /** Its client has sent a request. With TLS it may be another object than the one that came. */
  spoke(socket: Peer): void;
}

interface Newcomer {
  readonly socket: Peer;
  readonly address: string;
  readonly at: number;
}
type Name = string | Peer;

export function createNewcomers(
  log: Log | undefined,
  bounds: NewcomerBounds,
  clock = () => performance.now(),
  later: (work: () => void, ms: number) => void = unreferenced,
): Newcomers {
  /** In the order in which they came. */
  const all = new Map<Name, Newcomer>();
  const ofAddress = new Map<string, Map<Name, Newcomer>>();
  let isLooking = false;

  function forget(name: Name): void {
    const known = all.get(name);
    if (known === undefined) return;
    all.delete(name);
    const same = ofAddress.get(known.address);
    same?.delete(name);
    if (same?.size === 0) ofAddress.delete(known.address);
  }

  function end(of: ReadonlyMap<Name, Newcomer>, why: string): void {
    const [oldest] = of;
    if (oldest === undefined) return;
    const [name, { socket, address }] = oldest;
    forget(name);
    log?.('warn', `connection closed: ${why}`, { peer: address });
    socket.destroy();
  }

  /** One timer for all. */
  function look(): void {
    for (const { at } of all.values()) {
      const leftMs = at + bounds.silentMaxMs - clock();
      if (leftMs > 0) {
        isLooking = true;
        later(look, leftMs);
        return;
      }
      end(all, `no request within ${bounds.silentMaxMs / 1000} s`);
    }
    isLooking = false;
  }

  return {
    came(socket) {
      const name = nameOf(socket);
      const address = socket.remoteAddress ?? '';
      const same = ofAddress.get(address) ?? new Map<Name, Newcomer>();
      if (address !== '' && same.size >= bounds.ofAddressMax)
        end(same, `over ${bounds.ofAddressMax} of one address have sent no request`);
      else if (all.size >= bounds.totalMax) end(all, `over ${bounds.totalMax} have sent no request`);
      const newcomer = { socket, address, at: clock() };
      all.set(name, newcomer);
      ofAddress.set(address, same.set(name, newcomer));
      socket.once('close', () => {
        if (all.get(name) === newcomer) forget(name);
      });
      if (!isLooking) look();
    },
    spoke(socket) {
      if (all.size > 0) forget(nameOf(socket)); // most requests are not the first of their connection
    },
  };
}

/** The two sockets of one TLS connection have one name. A unix socket is its own. */
const nameOf = (socket: Peer): Name =>
  socket.remotePort === undefined ? socket : `${socket.remoteAddress} ${socket.remotePort}`;

const unreferenced = (work: () => void, ms: number): void => void setTimeout(work, ms).unref();
