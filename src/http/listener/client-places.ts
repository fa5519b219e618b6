/** Bounds the open connections of each client: the listener has so many places in all, and no host may take those of
 *  others. */

/** No host has more containers that start at the same time. */
export const OF_CERTIFICATE_MAX = 1000;
/** Half of the places of a listener without certificates: behind one address may be a proxy of many hosts. */
export const OF_ADDRESS_MAX = 5000;

interface Peer {
  once(event: 'close', gone: () => void): unknown;
}

export interface ClientPlaces {
  /** Takes a place until the socket closes. Returns false when the client has none left. */
  enter(client: string, socket: Peer): boolean;
}

export function createClientPlaces(max: number): ClientPlaces {
  const taken = new Map<string, number>();
  const add = (client: string, by: number) => {
    const count = (taken.get(client) ?? 0) + by;
    if (count === 0) taken.delete(client);
    else taken.set(client, count);
  };
  return {
    enter(client, socket) {
      if ((taken.get(client) ?? 0) >= max) return false;
      add(client, 1);
      socket.once('close', () => add(client, -1));
      return true;
    },
  };
}
