/** One request of an engine to a server, and what becomes of it. */
import type { Context } from 'hono';
import { IpamError } from '../../src/domain/error.ts';
import type { Env } from '../../src/http/answer.ts';
import type { Clock, Process } from '../kit/clock.ts';

export type Reply = {
  readonly Address?: string;
  readonly PoolID?: string;
  readonly Error?: string;
  /** An agent asks another server. */
  readonly status?: 503;
};
/** How a request ends without an answer. */
export type Broken = 'the connection broke' | 'hung up';

/** Is told what becomes of the answer. */
export interface Witness {
  /** The answer was written to the socket; `isOpen`: the client has not closed it yet. */
  written(reply: Reply, isOpen: boolean): void;
  /** The client has closed the connection before it read the answer. */
  unread(reply: Reply): void;
}

export type Connection = ReturnType<typeof createConnection>;
/** A connection for one request of the client; `settle` gets its outcome. */
export function createConnection(
  clock: Clock,
  server: Process,
  client: Process,
  witness: Witness | null,
  settle: (outcome: Reply | Broken) => void,
) {
  let clientGone = false;
  const closed = new AbortController();
  let isAnswered = false;
  let reply: Reply | null = null;

  /** The server's answer goes to the socket. */
  function write(answer: Reply): void {
    if (isAnswered) return;
    isAnswered = true;
    witness?.written(answer, !clientGone);
    if (clientGone) {
      witness?.unread(answer);
      return;
    }
    reply = answer;
    clock.resume(client, () => {
      if (clientGone) return;
      reply = null;
      settle(answer);
    });
  }

  return {
    write,
    /** What the server can know. */
    signal: closed.signal,
    isGone: () => closed.signal.aborted,
    /** The engine closes it, or dies; the server is told later. */
    hangUp() {
      if (clientGone) return;
      clientGone = true;
      if (reply !== null) witness?.unread(reply);
      clock.resume(server, () => closed.abort(new IpamError('caller-gone', 'the caller has gone')));
      clock.resume(client, () => settle('hung up'));
    },
    /** The client sends its call elsewhere, and the end of the connection is lost on the way: the server is told of it
     *  long after. */
    vanish(toldAfterMs: number) {
      if (clientGone) return;
      clientGone = true;
      if (reply !== null) witness?.unread(reply);
      const tell = () => closed.abort(new IpamError('caller-gone', 'the caller has gone'));
      clock.resume(server, tell, toldAfterMs);
      clock.resume(client, () => settle('hung up'));
    },
    /** The server is dead. */
    break() {
      if (isAnswered) return;
      isAnswered = true;
      if (!clientGone) clock.resume(client, () => settle('the connection broke'));
    },
    /** As the server's handlers see it. */
    context() {
      const outgoing = { writeHead: () => {}, end: (text: string) => write(JSON.parse(text)) };
      return { env: { outgoing }, get: () => 'id', set: () => {} } as unknown as Context<Env>;
    },
  };
}
