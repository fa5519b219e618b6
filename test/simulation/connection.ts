/** One request of an engine to a server, and what becomes of it. */
import type { Context } from 'hono';
import type { Env } from '../../src/http/answer.ts';
import type { Clock, Process } from '../kit/clock.ts';

export type Reply = { readonly Address?: string; readonly PoolID?: string; readonly Error?: string };
/** How a request ends without an answer. */
export type Broken = 'the connection broke' | 'hung up';

/** What is told of a connection's fate. */
export interface Witness {
  /** The answer has gone to the socket and stands. */
  written(reply: Reply): void;
  /** It has reached nobody. */
  unread(reply: Reply): void;
}

export class Connection {
  readonly client: Process;
  readonly #clock: Clock;
  readonly #settle: (outcome: Reply | Broken) => void;
  readonly witness: Witness;
  clientGone = false;
  #serverKnows = false;
  #answered = false;
  #reply: Reply | null = null;

  constructor(clock: Clock, client: Process, witness: Witness, settle: (outcome: Reply | Broken) => void) {
    this.#clock = clock;
    this.client = client;
    this.witness = witness;
    this.#settle = settle;
  }

  /** What the server can know. */
  gone = (): boolean => this.#serverKnows;

  /** The engine closes it, or dies; the server is told later. */
  hangUp(): void {
    if (this.clientGone) return;
    this.clientGone = true;
    if (this.#reply !== null) this.witness.unread(this.#reply);
    this.#clock.effect(null, () => {
      this.#serverKnows = true;
    });
    this.#clock.resume(this.client, () => this.#settle('hung up'));
  }

  /** The server is dead. */
  break(): void {
    if (this.#answered) return;
    this.#answered = true;
    if (!this.clientGone) this.#clock.resume(this.client, () => this.#settle('the connection broke'));
  }

  /** The server's answer goes to the socket. */
  write(reply: Reply): void {
    if (this.#answered) return;
    this.#answered = true;
    this.witness.written(reply);
    if (this.clientGone) {
      this.witness.unread(reply);
      return;
    }
    this.#reply = reply;
    this.#clock.resume(this.client, () => {
      if (this.clientGone) return;
      this.#reply = null;
      this.#settle(reply);
    });
  }

  /** As the server's handlers see it. */
  context(): Context<Env> {
    const outgoing = {
      writeHead: () => {},
      end: (text: string) => this.write(JSON.parse(text)),
    };
    return { env: { outgoing } } as unknown as Context<Env>;
  }
}
