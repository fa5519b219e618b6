/** Who sent a call: the instance that its connection proves, and the ids that an agent gives it. */
import { createHash } from 'node:crypto';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Context } from 'hono';
import { type Identity, identityIn } from '../domain/certificate.ts';
import { IpamError } from '../domain/error.ts';
import type { InstanceId } from '../domain/ids.ts';
import { ANYBODY, type Authorize, type Origin } from '../domain/origin.ts';
import type { Env } from './answer.ts';
import { nameCall } from './call.ts';

/** The id of a call, and how long the call was at the agent before it was sent on. */
export const REQUEST_ID = 'ec2-ipam-request-id';
export const SENT_MS_AGO = 'ec2-ipam-sent-ms-ago';
/** With a release: the id of the request that was given the address. */
export const GIVEN_TO = 'ec2-ipam-given-to';

const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const isId = (text: unknown): text is string => typeof text === 'string' && ID.test(text);
const AGE_MS = /^\d{1,9}$/;

type Peer = { readonly via: 'unix' } | ({ readonly via: 'https'; readonly name: string | null } & Identity);

/** What is known of a connection. One over plain http proves nothing and is not in it. */
const peers = new WeakMap<Socket, Peer>();

/** Notes what the certificate of the connection says. Returns a name of the client: its instance, or a hash of its
 *  certificate; null without one. */
export function noteTlsPeer(socket: TLSSocket): string | null {
  // Deno has a Uint8Array here. A certificate without its bytes names nobody.
  const der: Uint8Array | undefined = socket.getPeerCertificate().raw;
  const identity = identityIn(der ?? new Uint8Array());
  const name =
    der === undefined ? null : (identity.instance ?? createHash('sha256').update(der).digest('hex'));
  peers.set(socket, { via: 'https', name, ...identity });
  return name;
}
export const noteUnixPeer = (socket: Socket): void => void peers.set(socket, { via: 'unix' });

/** Returns a name of the client, for bounds: what its certificate says, the unix socket, or its address. Null: there is
 *  no connection. */
export function clientOf(c: Context<Env>): string | null {
  const socket = c.env?.incoming?.socket;
  if (socket === undefined) return null;
  const peer = peers.get(socket);
  if (peer?.via === 'unix') return 'the unix socket';
  return peer?.name ?? socket.remoteAddress ?? null;
}

/** Returns who sent the call, and names the call by its id. Throws denied when the certificate names no instance, and
 *  bad-request for ids that cannot be read. Ids count only on connections that prove who sends them: nobody else may
 *  name a request. */
export function originOf(c: Context<Env>, authorize: Authorize): Origin {
  const incoming = c.env?.incoming;
  const peer = incoming === undefined ? undefined : peers.get(incoming.socket);
  if (incoming === undefined || peer === undefined) return ANYBODY;
  const isBound = peer.via === 'https' && authorize === 'instance';
  if (isBound && peer.instance === null) throw unnamed(peer.why);
  const { [REQUEST_ID]: id, [SENT_MS_AGO]: age, [GIVEN_TO]: givenTo } = incoming.headers;
  if (!isBound && id === undefined) return ANYBODY;
  const ids = idsOf(id, age, givenTo);
  if (ids.id !== null) nameCall(c, ids.id);
  return { instance: isBound ? peer.instance : null, ...ids };
}

/** Returns what the client's certificate is, when it is that of a Docker host, also of one that it does not name as it
 *  should, or may be that, since it cannot be read; null: it is not, or there is no certificate. */
export function hostCertificateOf(c: Context<Env>): string | null {
  const socket = c.env?.incoming?.socket;
  const peer = socket === undefined ? undefined : peers.get(socket);
  if (peer?.via !== 'https') return null;
  if (peer.instance !== null) return `that of the Docker host ${peer.instance}`;
  return {
    nameless: null,
    misnamed: `that of a Docker host, and cannot be used: ${peer.why}`,
    unreadable: 'not one that this server can read',
  }[peer.fault];
}

/** Returns the instance that the client's certificate names, whatever clients may do here. Throws denied where there is
 *  none. */
export function provedHost(c: Context<Env>): InstanceId {
  const incoming = c.env?.incoming;
  const peer = incoming === undefined ? undefined : peers.get(incoming.socket);
  if (peer?.via !== 'https')
    throw new IpamError('denied', 'this connection does not prove which host it comes from', {
      hint: 'use https with the certificate of the host',
    });
  if (peer.instance === null)
    throw new IpamError('denied', `the client certificate cannot be used: ${peer.why}`, {
      hint: 'give the host a certificate whose subjectAltName is URI:ec2-ipam://instance/i-…',
    });
  return peer.instance;
}

function idsOf(id: unknown, age: unknown, givenTo: unknown = null): Omit<Origin, 'instance'> {
  if (id === undefined) return { id: null, sentMsAgo: 0, givenTo: null };
  if (!isId(id) || typeof age !== 'string' || !AGE_MS.test(age))
    throw new IpamError(
      'bad-request',
      `${REQUEST_ID} must be a UUID in lower case, and ${SENT_MS_AGO} the age of the call in milliseconds`,
      { hint: 'nothing was changed' },
    );
  if (givenTo !== null && !isId(givenTo))
    throw new IpamError('bad-request', `${GIVEN_TO} must be a UUID in lower case`, {
      hint: 'nothing was changed',
    });
  return { id, sentMsAgo: Number(age), givenTo };
}

const unnamed = (why: string): IpamError =>
  new IpamError('denied', `the client certificate cannot be used: ${why}`, {
    hint: 'give the host a certificate whose subjectAltName is URI:ec2-ipam://instance/i-…, or start the server with --authorize any',
  });
