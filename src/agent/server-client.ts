/** Sends one request to a server over TLS. */
import { type Agent, type RequestOptions, request } from 'node:https';
import { IpamError } from '../domain/error.ts';

/** A server, as --server names it. */
export interface ServerUrl {
  /** A name or an address, without brackets. */
  readonly host: string;
  readonly port: number;
}

export interface Call {
  readonly path: string;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** The longest time until the answer is complete, in milliseconds. */
  readonly withinMs: number;
  /** With the certificates. False: a connection of its own. */
  readonly agent: Agent | false;
  /** The authorities of the server's certificate, in PEM; null: those of the system. */
  readonly serverCa: string | null;
  /** The address of this host that the request must come from. */
  readonly from?: string;
  /** Ends the wait. Then the server may have carried it out, or may still. */
  readonly signal?: AbortSignal;
}

export interface Answer {
  readonly status: number;
  readonly text: string;
}

/** There is no answer, and the server did not get the request. */
export class NotSentError extends IpamError {}

export type SendCall = (server: ServerUrl, call: Call) => Promise<Answer>;

/** The longest time until a connection is ready and the request written. */
const CONNECT_MS_MAX = 3_000;
const ANSWER_CHARS_MAX = 1 << 20;

export const formatServer = ({ host, port }: ServerUrl): string =>
  `https://${host.includes(':') ? `[${host}]` : host}:${port}`;

/** Throws unavailable when there is no answer. Then the server may have carried it out, or may still, except where it is
 *  a NotSentError. */
export const sendCall: SendCall = (server, call) =>
  new Promise((resolve, reject) => {
    let isSent = false;
    const fail = (reason: string) => {
      const Unanswered = isSent ? IpamError : NotSentError;
      reject(new Unanswered('unavailable', `no answer from ${formatServer(server)}: ${reason}`));
    };
    const sent = request(optionsOf(server, call), response => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part: string) => {
        text += part;
        if (text.length > ANSWER_CHARS_MAX) sent.destroy(new Error('the answer is too long'));
      });
      response.on('error', error => fail(reasonOf(error)));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
    });
    const giveUp = (reason: string) => () => {
      fail(reason);
      sent.destroy();
    };
    const late = setTimeout(giveUp(`not within ${call.withinMs} ms`), call.withinMs);
    const away = setTimeout(giveUp('it cannot be reached'), CONNECT_MS_MAX);
    sent.on('finish', () => {
      isSent = true;
      clearTimeout(away);
    });
    sent.on('error', error => fail(reasonOf(error)));
    const end = giveUp('the wait has ended');
    call.signal?.addEventListener('abort', end);
    sent.on('close', () => {
      clearTimeout(late);
      clearTimeout(away);
      call.signal?.removeEventListener('abort', end);
      fail('the connection was lost');
    });
    sent.end(call.body);
  });

function optionsOf(
  { host, port }: ServerUrl,
  { path, body, headers, agent, serverCa, from }: Call,
): RequestOptions {
  return {
    host,
    port,
    path,
    method: 'POST',
    agent,
    headers: { ...headers, 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
    ...(serverCa === null ? {} : { ca: serverCa }),
    ...(from === undefined ? {} : { localAddress: from, family: 4 }),
  };
}

function reasonOf(error: Error): string {
  const { code } = error as { code?: string };
  return code ?? error.message;
}

/** A refusal says more than a server that is away. */
export const moreTelling = (before: IpamError | null, now: IpamError): IpamError =>
  before?.code === 'denied' && now.code !== 'denied' ? before : now;
