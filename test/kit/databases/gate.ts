/** A TCP gate between the store and its database, which loses, holds or swallows what a test tells it to. */
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/**
 * What happens to the packet that a trap waits for, and to its connection:
 * - `lose request`: it never reaches the server; the client's connection breaks;
 * - `lose reply`: the server does it; the client's connection breaks instead of the answer;
 * - `swallow reply`: the server does it; the client hears nothing, ever;
 * - `hold`: the client's connection breaks; the server gets the packet when the test says so;
 * - `delay`: the server gets the packet when the test says so, and all goes on.
 */
export type Trap = 'lose request' | 'lose reply' | 'swallow reply' | 'hold' | 'delay';

export interface Gate {
  readonly port: number;
  /** Connections that were made so far. */
  readonly connections: number;
  /** Arms a trap for the next packet that contains `text`; resolves when it has sprung, to what lets a held
   *  packet go and resolves when the server has answered it. */
  trap(trap: Trap, text: string): Promise<() => Promise<void>>;
  /** From now on a query reaches the server as `change` makes it; null: as it is. */
  rewrite(change: ((sql: string) => string) | null): void;
  /** From now on nothing passes, on any connection, and nothing breaks. */
  blackHole(on: boolean): void;
  close(): Promise<void>;
}

export async function openGate(target: number): Promise<Gate> {
  const sockets = new Set<Socket>();
  let armed: { trap: Trap; text: string; sprung(release: () => Promise<void>): void } | null = null;
  let rewrite: ((sql: string) => string) | null = null;
  let connections = 0;
  let dark = false;

  const gate = createServer(client => {
    connections++;
    const server = connect(target, '127.0.0.1');
    let sprung: Trap | null = null;
    for (const socket of [client, server]) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => sockets.delete(socket));
    }
    server.on('data', bytes => {
      if (dark || sprung === 'swallow reply' || sprung === 'hold') return;
      if (sprung === 'lose reply') client.resetAndDestroy();
      else client.write(bytes);
    });
    server.on('close', () => client.destroy());
    client.on('close', () => {
      if (sprung !== 'hold') server.destroy();
    });
    client.on('data', sent => {
      if (dark) return;
      const bytes = rewrite === null ? sent : rewritten(sent, rewrite);

      if (armed === null || !bytes.includes(armed.text)) {
        server.write(bytes);
        return;
      }
      const { trap, sprung: tell } = armed;
      armed = null;
      sprung = trap;
      if (trap === 'lose reply' || trap === 'swallow reply') server.write(bytes);
      else if (trap !== 'delay') client.resetAndDestroy();
      if (trap === 'lose request') server.destroy();
      tell(async () => {
        const answered = new Promise(resolve => server.once('data', resolve));
        server.write(bytes);
        await answered;
        if (trap === 'hold') server.destroy();
      });
    });
  });
  await new Promise<void>(resolve => gate.listen(0, '127.0.0.1', resolve));

  return {
    port: (gate.address() as AddressInfo).port,
    get connections() {
      return connections;
    },
    trap: (trap, text) =>
      new Promise(sprung => {
        armed = { trap, text, sprung };
      }),
    rewrite(change) {
      rewrite = change;
    },
    blackHole(on) {
      dark = on;
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise(resolve => gate.close(resolve));
    },
  };
}

const COM_QUERY = 3;
/** A packet of the protocol that is one query: its length in three bytes, a number, a 3, the text. Others stay. */
function rewritten(packet: Buffer, change: (sql: string) => string): Buffer {
  if (packet[3] !== 0 || packet[4] !== COM_QUERY) return packet;
  const text = Buffer.from(change(packet.subarray(5).toString('utf8')), 'utf8');
  const head = Buffer.from(packet.subarray(0, 5));
  head.writeUIntLE(text.length + 1, 0, 3);
  return Buffer.concat([head, text]);
}
