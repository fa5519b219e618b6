import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Server as NetServer, Socket } from 'node:net';

/** The open connections of a server and the responses that each still owes. `front` is what listens: `http` itself,
 *  or what hands it its connections. */
export class Connections {
  readonly #front: NetServer;
  /** As they were accepted; before a TLS handshake is over, `http` does not know of them. */
  readonly #accepted = new Set<Socket>();
  readonly #owed = new Map<Socket, Set<ServerResponse>>();
  #closing = false;

  constructor(http: Server, front: NetServer) {
    this.#front = front;
    front.on('connection', (socket: Socket) => {
      this.#accepted.add(socket);
      socket.once('close', () => this.#accepted.delete(socket));
    });
    http.on('connection', (socket: Socket) => {
      this.#owed.set(socket, new Set());
      socket.once('close', () => this.#owed.delete(socket));
    });
    http.prependListener('request', (request: IncomingMessage, response: ServerResponse) => {
      const { socket } = request;
      this.#owed.get(socket)?.add(response);
      if (this.#closing) announceEnd(response);
      response.once('close', () => this.#settle(socket, response));
    });
  }

  #settle(socket: Socket, response: ServerResponse): void {
    const owed = this.#owed.get(socket);
    owed?.delete(response);
    if (this.#closing && owed?.size === 0) socket.destroySoon();
  }

  /** Accepts nothing new; resolves when all connections are closed, those that owe an answer after it or after
   *  `boundMs`. */
  close(boundMs: number): Promise<void> {
    this.#closing = true;
    return new Promise(resolve => {
      const cut = setTimeout(() => {
        for (const socket of [...this.#owed.keys(), ...this.#accepted]) socket.destroy();
      }, boundMs);
      this.#front.close(() => {
        clearTimeout(cut);
        resolve();
      });
      for (const [socket, owed] of this.#owed) {
        if (owed.size === 0) socket.destroySoon();
        else owed.forEach(announceEnd);
      }
    });
  }
}

/** A client that reads this sends its next request elsewhere. */
function announceEnd(response: ServerResponse): void {
  if (!response.headersSent) response.setHeader('Connection', 'close');
}
