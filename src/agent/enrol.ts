/** Enrols this host at a server: proves which instance it is, and gets a certificate. */
import { createHash } from 'node:crypto';
import * as v from 'valibot';
import { IpamError } from '../domain/error.ts';
import { type Credential, credentialOf, newKeyPair } from './credential.ts';
import type { Host } from './host.ts';
import { type Answer, formatServer, type SendCall, type ServerUrl } from './server-client.ts';

/** The longest time for each of the two requests. The server asks STS and EC2 during the second. */
const ANSWER_MS_MAX = 20_000;

export interface EnrolDeps {
  readonly send: SendCall;
  readonly serverCa: string | null;
  /** AWS_ENDPOINT_URL_STS. */
  readonly stsOverride: string | undefined;
  /** The time of day, in milliseconds. */
  readonly timeOfDay: () => number;
}

const Challenge = v.object({ nonce: v.pipe(v.string(), v.regex(/^[\w-]{16,64}$/)), region: v.string() });
const Enrolled = v.object({ certificate: v.string() });
const Refused = v.object({ Error: v.string() });

/** Throws denied when the server refuses, and unavailable when it does not answer. */
export async function enrolAt(server: ServerUrl, host: Host, deps: EnrolDeps): Promise<Credential> {
  const ask = async <S extends v.GenericSchema>(path: string, body: object, schema: S) => {
    const answer = await deps.send(server, {
      path,
      body: JSON.stringify(body),
      withinMs: ANSWER_MS_MAX,
      agent: false,
      serverCa: deps.serverCa,
      from: host.address,
    });
    return parsed(answer, schema, server);
  };
  const { nonce, region } = await ask('/enroll/nonce', {}, Challenge);
  const { key, publicKey } = newKeyPair();
  const keyHash = createHash('sha256').update(publicKey).digest('hex');
  const statement = { server: server.host, nonce, keyHash };
  const { signStatement, stsEndpoint } = await import('../cloud/caller-identity.ts');
  const endpoint = stsEndpoint(region, deps.stsOverride);
  const at = { region, endpoint, now: deps.timeOfDay() };
  const signed = await signStatement(statement, host.credentials, at);
  const proof = { server: server.host, nonce, publicKey: publicKey.toString('base64'), ...signed };
  const { certificate } = await ask('/enroll', proof, Enrolled);
  const credential = credentialOf(certificate, key, deps.serverCa);
  if (credential === null || credential.instance !== host.instance)
    throw new IpamError(
      'unavailable',
      `${formatServer(server)} gave a certificate that is not of ${host.instance}`,
    );
  return credential;
}

function parsed<S extends v.GenericSchema>(
  { status, text }: Answer,
  schema: S,
  server: ServerUrl,
): v.InferOutput<S> {
  let body: unknown = null;
  try {
    body = JSON.parse(text);
  } catch {}
  const result = v.safeParse(schema, body);
  if (status === 200 && result.success) return result.output;
  const refused = v.safeParse(Refused, body);
  const why = refused.success ? refused.output.Error : `status ${status}`;
  throw new IpamError(status === 403 ? 'denied' : 'unavailable', `${formatServer(server)} answers: ${why}`);
}
